package store

import (
	"context"
	"fmt"
)

// seal encrypts a secret for storage when the database was opened with a key.
func (db *DB) seal(plain string) (stored []byte, sealed bool, err error) {
	if db.o.Seal == nil {
		return []byte(plain), false, nil
	}
	stored, err = db.o.Seal([]byte(plain))
	if err != nil {
		return nil, false, fmt.Errorf("encrypt: %w", err)
	}
	return stored, true, nil
}

func (db *DB) unseal(stored []byte, sealed bool) (string, error) {
	if !sealed {
		return string(stored), nil
	}
	if db.o.Open == nil {
		return "", fmt.Errorf("decrypt: the value is encrypted and the database was opened without a key: %w", ErrInvalid)
	}
	plain, err := db.o.Open(stored)
	if err != nil {
		return "", fmt.Errorf("decrypt (was the key changed?): %w", err)
	}
	return string(plain), nil
}

// PutVariable creates or replaces a variable. Its value never stands in an event.
func (tx *Tx) PutVariable(v Variable) error {
	value, sealed, err := tx.db.seal(v.Value)
	if err != nil {
		return fmt.Errorf("put variable %s: %w", v.Key, err)
	}
	if _, err := tx.s.exec(putVariable, v.Key, value, truth(sealed), v.Description); err != nil {
		return fmt.Errorf("put variable %s: %w", v.Key, err)
	}
	tx.renewed = append(tx.renewed, [2]string{"variable", v.Key})
	return tx.emitAdmin("variable.put", "key", v.Key)
}

// DeleteVariable deletes a variable; ErrNotFound.
func (tx *Tx) DeleteVariable(key string) error {
	tx.renewed = append(tx.renewed, [2]string{"variable", key})
	return tx.deleteAdmin(deleteVariable, "variable", "key", key)
}

// PutConnection creates or replaces a connection. Only its id and type stand in the event.
func (tx *Tx) PutConnection(c Connection) error {
	password, sealed, err := tx.db.seal(c.Password)
	if err != nil {
		return fmt.Errorf("put connection %s: %w", c.ID, err)
	}
	extra, _, err := tx.db.seal(c.Extra)
	if err != nil {
		return fmt.Errorf("put connection %s: %w", c.ID, err)
	}
	if _, err := tx.s.exec(putConnection, c.ID, c.Type, c.Description, c.Host, c.Schema, c.Login, optInt(c.Port), password, extra,
		truth(sealed)); err != nil {
		return fmt.Errorf("put connection %s: %w", c.ID, err)
	}
	tx.renewed = append(tx.renewed, [2]string{"connection", c.ID})
	return tx.emitAdmin("connection.put", "id", c.ID)
}

// DeleteConnection deletes a connection; ErrNotFound.
func (tx *Tx) DeleteConnection(id string) error {
	tx.renewed = append(tx.renewed, [2]string{"connection", id})
	return tx.deleteAdmin(deleteConnection, "connection", "id", id)
}

// DefaultPool is the pool of tasks that name none; it always exists.
const DefaultPool = "default_pool"

// PutPool creates or replaces a pool.
func (tx *Tx) PutPool(p Pool) error {
	if p.Slots < -1 {
		return fmt.Errorf("put pool %s: %d slots (-1 is unlimited): %w", p.Name, p.Slots, ErrInvalid)
	}
	if _, err := tx.s.exec(putPool, p.Name, p.Description, p.Slots, truth(p.IncludeDeferred)); err != nil {
		return fmt.Errorf("put pool %s: %w", p.Name, err)
	}
	return tx.Emit(Event{Kind: "pool.put", MapIndex: -1,
		Detail: detail{"name": p.Name, "slots": p.Slots, "include_deferred": p.IncludeDeferred}.json()})
}

// DeletePool deletes a pool; ErrNotFound. The default pool stays: ErrConflict.
func (tx *Tx) DeletePool(name string) error {
	if name == DefaultPool {
		return fmt.Errorf("delete pool %s: it is the default pool and cannot be deleted: %w", name, ErrConflict)
	}
	return tx.deleteAdmin(deletePool, "pool", "name", name)
}

func (tx *Tx) deleteAdmin(id statement, what, keyName, key string) error {
	n, err := tx.s.exec(id, key)
	if err != nil {
		return fmt.Errorf("delete %s %s: %w", what, key, err)
	}
	if n == 0 {
		return fmt.Errorf("%s %s: %w", what, key, ErrNotFound)
	}
	return tx.emitAdmin(what+".deleted", keyName, key)
}

func (tx *Tx) emitAdmin(kind, keyName, key string) error {
	return tx.Emit(Event{Kind: kind, MapIndex: -1, Detail: detail{keyName: key}.json()})
}

func (db *DB) scanVariable(row scanner) (Variable, error) {
	var v Variable
	var value []byte
	var sealed bool
	if err := row.Scan(&v.Key, &value, &sealed, &v.Description); err != nil {
		return Variable{}, err
	}
	var err error
	if v.Value, err = db.unseal(value, sealed); err != nil {
		return Variable{}, fmt.Errorf("variable %s: %w", v.Key, err)
	}
	return v, nil
}

// Variables lists variables by key; pattern is an SQL LIKE pattern, empty for all.
func (db *DB) Variables(ctx context.Context, pattern string) ([]Variable, error) {
	id, args := variables, []any(nil)
	if pattern != "" {
		id, args = variablesLike, []any{pattern}
	}
	var vs []Variable
	err := db.each(ctx, id, args, func(row scanner) error {
		v, err := db.scanVariable(row)
		vs = append(vs, v)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read variables: %w", err)
	}
	return vs, nil
}

// Variable returns one variable.
func (db *DB) Variable(ctx context.Context, key string) (Variable, error) {
	var v Variable
	var value []byte
	var sealed bool
	err := db.get(ctx, getVariable, []any{key}, &v.Key, &value, &sealed, &v.Description)
	if err == nil {
		v.Value, err = db.unseal(value, sealed)
	}
	if err != nil {
		return Variable{}, fmt.Errorf("variable %s: %w", key, err)
	}
	return v, nil
}

const connectionColumns = `id, type, description, host, schema_name, login, port, password, extra, sealed`

func (db *DB) scanConnection(row scanner) (Connection, error) {
	var c Connection
	var password, extra []byte
	var sealed bool
	err := row.Scan(&c.ID, &c.Type, &c.Description, &c.Host, &c.Schema, &c.Login, optIntIn{&c.Port}, &password, &extra, &sealed)
	if err != nil {
		return Connection{}, err
	}
	if c.Password, err = db.unseal(password, sealed); err != nil {
		return Connection{}, fmt.Errorf("connection %s: %w", c.ID, err)
	}
	if c.Extra, err = db.unseal(extra, sealed); err != nil {
		return Connection{}, fmt.Errorf("connection %s: %w", c.ID, err)
	}
	return c, nil
}

// Connections lists all connections by id, secrets included.
func (db *DB) Connections(ctx context.Context) ([]Connection, error) {
	return db.connections(ctx, connections)
}

// Connection returns one connection.
func (db *DB) Connection(ctx context.Context, id string) (Connection, error) {
	cs, err := db.connections(ctx, getConnection, id)
	if err != nil {
		return Connection{}, err
	}
	if len(cs) == 0 {
		return Connection{}, fmt.Errorf("connection %s: %w", id, ErrNotFound)
	}
	return cs[0], nil
}

func (db *DB) connections(ctx context.Context, id statement, args ...any) ([]Connection, error) {
	var cs []Connection
	err := db.each(ctx, id, args, func(row scanner) error {
		c, err := db.scanConnection(row)
		cs = append(cs, c)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read connections: %w", err)
	}
	return cs, nil
}

// Pools lists all pools by name.
func (db *DB) Pools(ctx context.Context) ([]Pool, error) {
	var ps []Pool
	err := db.each(ctx, pools, nil, func(row scanner) error {
		var p Pool
		err := row.Scan(&p.Name, &p.Description, &p.Slots, &p.IncludeDeferred)
		ps = append(ps, p)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read pools: %w", err)
	}
	return ps, nil
}
