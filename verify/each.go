package verify

import (
	"errors"
	"sync"
)

// Each calls f for all items at once and joins their errors in the items'
// order. Items are few: nodes, or pairs of them. A panic is an error of its item.
func Each[T any](items []T, f func(T) error) error {
	errs := make([]error, len(items))
	var all sync.WaitGroup
	for i, item := range items {
		all.Go(func() { errs[i] = guard(func() error { return f(item) }) })
	}
	all.Wait()
	return errors.Join(errs...)
}
