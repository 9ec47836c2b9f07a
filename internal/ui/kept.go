package ui

import "container/list"

// kept are things by their key, at most so many, in the order in which they have changed.
type kept[K comparable, V any] struct {
	most  int
	byKey map[K]*list.Element
	order *list.List // of *entry[K, V], latest change first
}

type entry[K comparable, V any] struct {
	key     K
	changed uint64 // the version of the picture that it changed in
	value   V
}

func newKept[K comparable, V any](most int) kept[K, V] {
	return kept[K, V]{most: most, byKey: map[K]*list.Element{}, order: list.New()}
}

func (k *kept[K, V]) get(key K) *entry[K, V] {
	if e := k.byKey[key]; e != nil {
		return e.Value.(*entry[K, V])
	}
	return nil
}

func (k *kept[K, V]) full() bool { return len(k.byKey) >= k.most }

// oldest is the one that has not changed for longest.
func (k *kept[K, V]) oldest() *entry[K, V] { return k.order.Back().Value.(*entry[K, V]) }

func (k *kept[K, V]) add(key K, value V) *entry[K, V] {
	e := &entry[K, V]{key: key, value: value}
	k.byKey[key] = k.order.PushFront(e)
	return e
}

func (k *kept[K, V]) change(e *entry[K, V], version uint64) {
	e.changed = version
	k.order.MoveToFront(k.byKey[e.key])
}

func (k *kept[K, V]) remove(key K) {
	k.order.Remove(k.byKey[key])
	delete(k.byKey, key)
}

// since calls each with what has changed after a version, latest first.
func (k *kept[K, V]) since(version uint64, each func(*V)) {
	for at := k.order.Front(); at != nil; at = at.Next() {
		e := at.Value.(*entry[K, V])
		if e.changed <= version {
			return
		}
		each(&e.value)
	}
}

// all calls each with everything. It may remove what it is called with.
func (k *kept[K, V]) all(each func(*entry[K, V])) {
	for at := k.order.Front(); at != nil; {
		next := at.Next()
		each(at.Value.(*entry[K, V]))
		at = next
	}
}
