package secret

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// A Box seals values with AES-256-GCM. Its keys live in a file, one a line as "id key": the first seals, all open, so a
// key can be replaced while values sealed with the old one are still around. It is safe for concurrent use.
type Box struct {
	path string
	mu   sync.RWMutex
	keys []boxKey // the first is the current one
}

type boxKey struct {
	id   string
	key  []byte
	aead cipher.AEAD
}

// ErrSealed is the reason of every failure to open a sealed value: a wrong key, another place, or a value that was changed.
var ErrSealed = errors.New("sealed value cannot be opened")

const sealedPrefix = "sealed1:"

// OpenBox reads the key file, or makes one with a fresh key, readable by its owner only. A file that others can read is
// an error: its keys are not secret any more.
func OpenBox(path string) (*Box, error) {
	b := &Box{path: path}
	for range 2 {
		text, err := os.ReadFile(path)
		switch {
		case err == nil:
			if err := b.parse(text); err != nil {
				return nil, fmt.Errorf("read key file %s: %w", path, err)
			}
			return b, nil
		case !errors.Is(err, fs.ErrNotExist):
			return nil, fmt.Errorf("read key file: %w", err)
		}
		key, err := newKey()
		if err != nil {
			return nil, err
		}
		b.keys = []boxKey{key}
		if err := b.write(false); err != nil && !errors.Is(err, fs.ErrExist) { // another process was first: read its file
			return nil, fmt.Errorf("make key file: %w", err)
		}
	}
	return nil, fmt.Errorf("read key file %s: it comes and goes", path)
}

func (b *Box) parse(text []byte) error {
	info, err := os.Stat(b.path)
	if err != nil {
		return err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("others may read it (mode %o); run chmod 600 on it, and replace the keys if anybody did", info.Mode().Perm())
	}
	b.keys = nil
	n := 0
	for line := range strings.Lines(string(text)) {
		n++
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		id, encoded, _ := strings.Cut(line, " ")
		raw, err := base64.StdEncoding.DecodeString(strings.TrimSpace(encoded))
		if err != nil || len(raw) != 32 || id == "" {
			return fmt.Errorf("line %d is not an id and a key of 32 bytes in base64", n)
		}
		key, err := makeKey(id, raw)
		if err != nil {
			return err
		}
		b.keys = append(b.keys, key)
	}
	if len(b.keys) == 0 {
		return errors.New("it holds no key; restore it from a backup, or remove it and enter the secrets again")
	}
	return nil
}

func newKey() (boxKey, error) {
	raw := make([]byte, 32+4)
	if _, err := rand.Read(raw); err != nil {
		return boxKey{}, fmt.Errorf("make a key: %w", err)
	}
	return makeKey(hex.EncodeToString(raw[32:]), raw[:32])
}

func makeKey(id string, raw []byte) (boxKey, error) {
	block, err := aes.NewCipher(raw)
	if err != nil {
		return boxKey{}, fmt.Errorf("use key %s: %w", id, err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return boxKey{}, fmt.Errorf("use key %s: %w", id, err)
	}
	return boxKey{id: id, key: raw, aead: aead}, nil
}

// write puts the keys into the file: whole or not at all, and durably, since what they seal is lost without them.
func (b *Box) write(replace bool) error {
	var text strings.Builder
	text.WriteString("# Keys for the secrets in control.db: the first seals, all open. Without this file they are lost.\n")
	for _, key := range b.keys {
		fmt.Fprintf(&text, "%s %s\n", key.id, base64.StdEncoding.EncodeToString(key.key))
	}
	dir := filepath.Dir(b.path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	temp, err := os.CreateTemp(dir, ".key-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(temp.Name())
	_, err = temp.WriteString(text.String())
	if err := errors.Join(err, temp.Sync(), temp.Close()); err != nil {
		return err
	}
	if replace {
		err = os.Rename(temp.Name(), b.path)
	} else {
		err = os.Link(temp.Name(), b.path) // fails if there is one already
	}
	if err != nil {
		return err
	}
	if d, err := os.Open(dir); err == nil {
		defer d.Close()
		return d.Sync()
	}
	return nil
}

// Seal encrypts a value for one place, such as "connection/warehouse": it opens nowhere else, so that rows cannot be
// swapped. The result is text.
func (b *Box) Seal(place string, value []byte) (string, error) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	key := b.keys[0]
	nonce := make([]byte, key.aead.NonceSize(), key.aead.NonceSize()+len(value)+key.aead.Overhead())
	if _, err := rand.Read(nonce); err != nil {
		return "", fmt.Errorf("seal value for %s: %w", place, err)
	}
	sealed := key.aead.Seal(nonce, nonce, value, []byte(place))
	return sealedPrefix + key.id + ":" + base64.StdEncoding.EncodeToString(sealed), nil
}

// Open decrypts what Seal made for the same place. A failure is ErrSealed.
func (b *Box) Open(place, sealed string) ([]byte, error) {
	id, encoded, ok := split(sealed)
	if !ok {
		return nil, fmt.Errorf("open value for %s: it is not a sealed value: %w", place, ErrSealed)
	}
	b.mu.RLock()
	defer b.mu.RUnlock()
	for _, key := range b.keys {
		if key.id != id {
			continue
		}
		raw, err := base64.StdEncoding.DecodeString(encoded)
		if err != nil || len(raw) < key.aead.NonceSize() {
			return nil, fmt.Errorf("open value for %s: it was cut or changed: %w", place, ErrSealed)
		}
		n := key.aead.NonceSize()
		value, err := key.aead.Open(nil, raw[:n], raw[n:], []byte(place))
		if err != nil {
			return nil, fmt.Errorf("open value for %s: it was changed or belongs elsewhere: %w", place, ErrSealed)
		}
		return value, nil
	}
	return nil, fmt.Errorf("open value for %s: key %s is not in %s: %w", place, id, b.path, ErrSealed)
}

func split(sealed string) (id, encoded string, ok bool) {
	rest, ok := strings.CutPrefix(sealed, sealedPrefix)
	if !ok {
		return "", "", false
	}
	return strings.Cut(rest, ":")
}

// IsSealed says whether a text looks like what Seal makes.
func IsSealed(text string) bool {
	_, _, ok := split(text)
	return ok
}

// Current says whether a value was sealed with the current key; others shall be sealed again after Rotate.
func (b *Box) Current(sealed string) bool {
	id, _, ok := split(sealed)
	b.mu.RLock()
	defer b.mu.RUnlock()
	return ok && id == b.keys[0].id
}

// Rotate makes a fresh key the current one. The old ones stay in the file and open what they sealed.
func (b *Box) Rotate() error {
	key, err := newKey()
	if err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	old := b.keys
	b.keys = append([]boxKey{key}, old...)
	if err := b.write(true); err != nil {
		b.keys = old
		return fmt.Errorf("write key file: %w", err)
	}
	return nil
}
