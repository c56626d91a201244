package worker

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sync"

	"ostro.dev/ostro/internal/secret"
	"ostro.dev/ostro/protocol"
)

// An asking has a server answer what a DAG file asks for at its top level, and keeps what of the answers must stay out
// of logs: of what the import prints, and of what every later task of the file prints.
type asking struct {
	server func(ctx context.Context, bundle string, request json.RawMessage) (json.RawMessage, error)
	bundle string

	mu       sync.Mutex
	masker   secret.Masker
	named    []string                   // what the file's process called a secret
	found    []string                   // what was secret of the answers
	awaiting string                     // what was asked for last and not answered
	asked    map[string]map[string]bool // the names asked for, by type of request
}

// Ask passes a request on and waits for the answer, as long as the import may last.
func (a *asking) Ask(ctx context.Context, request json.RawMessage) (json.RawMessage, error) {
	var r protocol.Request
	if err := json.Unmarshal(request, &r); err != nil {
		return nil, &protocol.Error{Code: protocol.CodeInvalid, Message: err.Error()}
	}
	what := fmt.Sprintf("the variable %q", r.Key)
	if r.Type == "GetConnection" {
		what = fmt.Sprintf("the connection %q", r.ConnID)
	}
	a.mu.Lock()
	a.awaiting = what
	a.note(r.Type, r.Key+r.ConnID)
	a.mu.Unlock()
	answer, err := a.server(ctx, a.bundle, request)
	if ctx.Err() != nil {
		return nil, ctx.Err() // and it stays what the import waited for to its end
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.awaiting = ""
	if err == nil {
		secrets := secretsIn(request, answer)
		a.found = append(a.found, secrets...)
		a.masker.Add(secrets...)
	}
	return answer, err
}

// Mask keeps a value out of logs from now on.
func (a *asking) Mask(value string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.named = append(a.named, value)
	a.masker.AddExplicit(value)
}

// tell has another masker hide what this one does.
func (a *asking) tell(m *secret.Masker) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.named) > 0 {
		m.AddExplicit(a.named...)
	}
	if len(a.found) > 0 {
		m.Add(a.found...)
	}
}

// because explains an import that did not end with what it waited for; without a question open it adds nothing.
func (a *asking) because(err error) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.awaiting == "" {
		return err
	}
	return fmt.Errorf("%w; it was waiting for a server to tell it %s", err, a.awaiting)
}

// note keeps what was asked for, with the lock held.
func (a *asking) note(kind, name string) {
	if a.asked == nil {
		a.asked = map[string]map[string]bool{}
	}
	if a.asked[kind] == nil {
		a.asked[kind] = map[string]bool{}
	}
	a.asked[kind][name] = true
}

// names are the variables and the connections asked for so far.
func (a *asking) names() (variables, connections []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Sorted(maps.Keys(a.asked["GetVariable"])), slices.Sorted(maps.Keys(a.asked["GetConnection"]))
}

// clean masks what people see of an import.
func (a *asking) clean(d *protocol.Described) {
	for i := range d.Errors {
		e := &d.Errors[i]
		e.Message, e.Traceback = maskedExcerpt(&a.masker, e.Message), maskedExcerpt(&a.masker, e.Traceback)
	}
	for i := range d.Warnings {
		d.Warnings[i] = maskedExcerpt(&a.masker, d.Warnings[i])
	}
}
