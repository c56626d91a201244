package worker

// A memory remembers the newest entries up to a number; it forgets the oldest for a new one.
type memory[K comparable, V any] struct {
	values map[K]V
	ring   []K // grows up to most, then goes round
	most   int
	next   int
}

func newMemory[K comparable, V any](most int) *memory[K, V] {
	return &memory[K, V]{values: map[K]V{}, most: most}
}

// Get returns what is remembered of k.
func (m *memory[K, V]) Get(k K) (V, bool) {
	v, ok := m.values[k]
	return v, ok
}

// Put remembers k. What is known already is changed and grows no younger.
func (m *memory[K, V]) Put(k K, v V) {
	_, known := m.values[k]
	m.values[k] = v
	switch {
	case known:
	case len(m.ring) < m.most:
		m.ring = append(m.ring, k)
	default:
		delete(m.values, m.ring[m.next])
		m.ring[m.next] = k
		m.next = (m.next + 1) % m.most
	}
}
