package taskapi

import (
	"encoding/json"
	"errors"

	"ostro.dev/ostro/internal/store"
	"ostro.dev/ostro/protocol"
)

func (c *call) getVariable() (any, error) {
	v, err := c.store.Variable(c.ctx, c.req.Key)
	if errors.Is(err, store.ErrNotFound) {
		return nil, fault(protocol.CodeVariableNotFound, "there is no variable %q", c.req.Key)
	}
	return struct {
		Type  string `json:"type"`
		Key   string `json:"key"`
		Value string `json:"value"`
	}{"VariableResult", v.Key, v.Value}, err
}

func (c *call) putVariable() (any, error) {
	if c.req.Key == "" {
		return nil, fault(protocol.CodeInvalid, "a variable needs a key")
	}
	v := store.Variable{Key: c.req.Key, Value: text(c.req.Value)}
	if c.req.Description != nil {
		v.Description = *c.req.Description
	} else if old, err := c.store.Variable(c.ctx, v.Key); err == nil {
		v.Description = old.Description
	}
	return ok, c.update(func(tx *store.Tx) error { return tx.PutVariable(v) })
}

// text is a JSON string's text; any other JSON stands for itself.
func text(raw json.RawMessage) string {
	var s string
	if json.Unmarshal(raw, &s) == nil {
		return s
	}
	return string(raw)
}

func (c *call) deleteVariable() (any, error) {
	err := c.update(func(tx *store.Tx) error { return tx.DeleteVariable(c.req.Key) })
	return ok, ignoreNotFound(err) // gone is gone, also the second time
}

func (c *call) getConnection() (any, error) {
	k, err := c.store.Connection(c.ctx, c.req.ConnID)
	if errors.Is(err, store.ErrNotFound) {
		return nil, fault(protocol.CodeConnectionNotFound, "there is no connection %q", c.req.ConnID)
	}
	return protocol.ConnectionResult{
		Type: "ConnectionResult", ConnID: k.ID, ConnType: k.Type, Host: k.Host, Schema: k.Schema, Login: k.Login,
		Password: k.Password, Port: k.Port, Extra: k.Extra,
	}, err
}
