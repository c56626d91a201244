package taskapi

import (
	"encoding/json"

	"ostro.dev/ostro/internal/scheduler"
	"ostro.dev/ostro/internal/store"
	"ostro.dev/ostro/protocol"
)

func (c *call) getAsset() (any, error) {
	if c.req.Name == "" && c.req.URI == "" {
		return nil, fault(protocol.CodeInvalid, "%s needs the asset's name or URI", c.req.Type)
	}
	found, _, err := c.store.Assets(c.ctx, store.AssetFilter{Name: c.req.Name, URI: c.req.URI, Limit: 1})
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return nil, fault(protocol.CodeNotFound, "there is no asset %q", c.req.Name+c.req.URI)
	}
	a := found[0]
	return struct {
		Type  string          `json:"type"`
		Name  string          `json:"name"`
		URI   string          `json:"uri"`
		Group string          `json:"group"`
		Extra json.RawMessage `json:"extra"`
	}{"AssetResult", a.Key.Name, a.Key.URI, a.Group, a.Extra}, nil
}

// getAssetEvents lists the events of an asset or of an alias, oldest first unless ascending is false.
func (c *call) getAssetEvents() (any, error) {
	f := store.AssetEventFilter{Name: c.req.Name, URI: c.req.URI, Alias: c.req.AliasName, From: c.req.After, To: c.req.Before, Limit: c.req.Limit}
	if f.Name == "" && f.URI == "" && f.Alias == "" {
		return nil, fault(protocol.CodeInvalid, "%s needs the name or URI of an asset, or the name of an alias", c.req.Type)
	}
	if c.req.Ascending != nil && !*c.req.Ascending {
		f.OrderBy = []string{"-id"}
	}
	events, _, err := c.store.AssetEvents(c.ctx, f)
	if err != nil {
		return nil, err
	}
	wire, err := scheduler.WireAssetEvents(events)
	return struct {
		Type   string          `json:"type"`
		Events json.RawMessage `json:"asset_events"`
	}{"AssetEventsResult", wire}, err
}
