package store

// Waiting is how many closures wait for the writer.
func (db *DB) Waiting() int { return len(db.w.requests) }
