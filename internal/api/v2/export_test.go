package v2

import "context"

// Proving tells whether the store is being asked if it can be written.
func (a *API) Proving() bool {
	a.proof.mu.Lock()
	defer a.proof.mu.Unlock()
	return a.proof.doing != nil
}

// Writable is what health says of the store.
func (a *API) Writable(ctx context.Context) error { return a.writable(ctx) }
