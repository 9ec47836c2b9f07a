package verify

import (
	"errors"
	"net/netip"
	"sync"
)

var unspecified = netip.IPv4Unspecified()

// url is where a nettool server answers HTTP.
func url(at netip.AddrPort) string { return "http://" + at.String() + "/" }

// each calls f for all items at once and joins their errors in the items'
// order. Items are few: nodes, or pairs of them.
func each[T any](items []T, f func(T) error) error {
	errs := make([]error, len(items))
	var all sync.WaitGroup
	for i, item := range items {
		all.Go(func() { errs[i] = f(item) })
	}
	all.Wait()
	return errors.Join(errs...)
}
