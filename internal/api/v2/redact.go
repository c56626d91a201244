package v2

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"ostro.dev/ostro/internal/api/v2/wire"
	"ostro.dev/ostro/internal/secret"
	"ostro.dev/ostro/internal/store"
)

// redact hides a text that people would not want to see: all of it under a sensitive name, the sensitive members of a
// JSON object otherwise.
func redact(name, value string) string {
	if value != "" && secret.IsSensitive(name) {
		return secret.Hidden
	}
	if strings.HasPrefix(strings.TrimSpace(value), "{") || strings.HasPrefix(strings.TrimSpace(value), "[") {
		return redactJSON(value)
	}
	return value
}

// redactJSON hides the sensitive members of a JSON text; a text that has none stays as it was written.
func redactJSON(value string) string {
	var m secret.Masker
	masked := string(m.MaskJSON(json.RawMessage(value)))
	decoder := json.NewDecoder(strings.NewReader(value))
	decoder.UseNumber()
	var plain any
	if decoder.Decode(&plain) != nil || decoder.More() {
		return masked
	}
	if same, err := json.Marshal(plain); err == nil && string(same) == masked {
		return value
	}
	return masked
}

// warned is what the answer to a write says of the secrets in it; nil when there is nothing to say.
func warned(warnings []string) *wire.AdminExtras {
	if len(warnings) == 0 {
		return nil
	}
	return &wire.AdminExtras{Warnings: warnings}
}

// shortSecret warns of a secret that logs will show: masking every "1" would make them unreadable and hide nothing.
func shortSecret(what string) string {
	return fmt.Sprintf("%s has fewer than %d characters: it is too short to be masked in logs", what, secret.MinLength)
}

// shortMembers warns of the secrets in a JSON object that are too short.
func shortMembers(what, text string) []string {
	var object map[string]json.RawMessage
	if json.Unmarshal([]byte(text), &object) != nil {
		return nil
	}
	var out []string
	for _, name := range slices.Sorted(maps.Keys(object)) {
		var value string
		if secret.IsSensitive(name) && json.Unmarshal(object[name], &value) == nil && secret.TooShort(value) {
			out = append(out, shortSecret(what+" "+name))
		}
	}
	return out
}

// reveal tells whether a request asks for values as they are stored (?reveal=true, which Airflow does not have), and
// records that somebody did.
func (a *API) reveal(r *request, what, name string) (bool, error) {
	asked := r.boolean("reveal", false)
	if err := r.bad(); err != nil || !asked {
		return false, err
	}
	detail, _ := json.Marshal(map[string]string{what: name}) // strings always have a JSON form
	err := a.Store.Update(r.ctx(), r.actor(), time.Now(), func(tx *store.Tx) error {
		return tx.Emit(store.Event{Kind: what + ".revealed", MapIndex: -1, Detail: detail})
	})
	if err != nil {
		return false, fmt.Errorf("record that %s %s is shown: %w", what, name, err)
	}
	return true, nil
}
