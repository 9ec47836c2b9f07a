package flows

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"wirelab.dev/wirelab/internal/api"
	"wirelab.dev/wirelab/internal/identity"
)

// Who knows who has which address. It is safe for concurrent use; Know is for one goroutine at a time.
type Who struct {
	numbers *identity.Numbers
	now     func() time.Time
	known   atomic.Pointer[known]

	telling sync.Mutex // one tells of its own pods at a time
	own     atomic.Pointer[map[netip.Addr]party]
}

// Pod is a pod of this node, or another endpoint, whose name is empty then.
type Pod struct {
	Addr     netip.Addr
	Name     api.PodName
	Identity identity.ID
}

// known is never changed.
type known struct {
	addrs      map[netip.Addr]party
	prefixes   []api.IPCacheEntry // of more than one address, the longest first
	pods       map[api.PodName]bool
	namespaces map[string]bool
}

// party is who has an address.
type party struct {
	pod      api.PodName
	identity identity.ID
	gone     time.Time // when somebody had it last; zero: somebody has it
}

// remembered is how long it is told of an address whose it was, when nobody has it any more: packets are heard of later than
// they are sent. It is shorter than an address rests before another pod gets it.
const remembered = time.Minute

// NewWho knows nobody. Labels of identities are those that numbers has.
func NewWho(numbers *identity.Numbers) *Who {
	w := &Who{numbers: numbers, now: time.Now}
	w.known.Store(&known{})
	w.own.Store(&map[netip.Addr]party{})
	return w
}

// KnowOwn has list say which pods the node has now. It is called before a new one sends anything, as Know comes later.
func (w *Who) KnowOwn(list func() []Pod) {
	w.telling.Lock()
	defer w.telling.Unlock()
	own := map[netip.Addr]party{}
	for _, p := range list() {
		own[p.Addr] = party{pod: p.Name, identity: p.Identity}
	}
	w.own.Store(&own)
}

// Know takes entries as all that is known of addresses, and pods as those that have them.
func (w *Who) Know(entries []api.IPCacheEntry, pods map[netip.Addr]api.PodName) {
	now, before := w.now(), w.known.Load()
	k := &known{addrs: make(map[netip.Addr]party, len(entries)), pods: make(map[api.PodName]bool, len(pods)), namespaces: map[string]bool{}}
	for _, e := range entries {
		if !e.Prefix.IsSingleIP() {
			k.prefixes = append(k.prefixes, e)
			continue
		}
		addr := e.Prefix.Addr()
		k.addrs[addr] = party{pod: pods[addr], identity: identity.ID(e.Identity)}
	}
	slices.SortStableFunc(k.prefixes, func(a, b api.IPCacheEntry) int { return cmp.Compare(b.Prefix.Bits(), a.Prefix.Bits()) })
	for addr, p := range before.addrs {
		if _, ok := k.addrs[addr]; ok {
			continue
		}
		if p.gone.IsZero() {
			p.gone = now
		}
		if now.Sub(p.gone) < remembered {
			k.addrs[addr] = p
		}
	}
	for p := range maps.Values(k.addrs) {
		if p.pod != (api.PodName{}) {
			k.pods[p.pod], k.namespaces[p.pod.Namespace] = true, true
		}
	}
	w.known.Store(k)
}

// fill says whose the address of e is. An identity that e has is believed.
func (w *Who) fill(e *api.FlowEnd) {
	p, ok := (*w.own.Load())[e.Addr]
	if !ok {
		p = w.known.Load().find(e.Addr)
	}
	e.Namespace, e.Pod = p.pod.Namespace, p.pod.Name
	e.Identity = cmp.Or(e.Identity, uint32(p.identity))
	id := identity.ID(e.Identity)
	if id.OfPods() {
		if entry, ok := w.numbers.Get(id); ok {
			e.Labels = entry.Set.Labels
			e.Namespace = cmp.Or(e.Namespace, entry.Set.Namespace)
		}
		return
	}
	if id != identity.Unknown {
		e.Name = id.String()
	}
}

func (k *known) find(addr netip.Addr) party {
	if p, ok := k.addrs[addr]; ok {
		return p
	}
	for _, e := range k.prefixes {
		if e.Prefix.Contains(addr) {
			return party{identity: identity.ID(e.Identity)}
		}
	}
	return party{}
}

// HasPod says whether the pod has an address, or had one just now.
func (w *Who) HasPod(name api.PodName) bool {
	return w.known.Load().pods[name] || w.hasOwn(func(p api.PodName) bool { return p == name })
}

// HasNamespace says whether such a pod is of the namespace.
func (w *Who) HasNamespace(name string) bool {
	return w.known.Load().namespaces[name] || w.hasOwn(func(p api.PodName) bool { return p.Namespace == name })
}

func (w *Who) hasOwn(is func(api.PodName) bool) bool {
	for _, p := range *w.own.Load() {
		if p.pod != (api.PodName{}) && is(p.pod) {
			return true
		}
	}
	return false
}

// HasIdentity says whether the number stands for something.
func (w *Who) HasIdentity(n uint32) bool {
	if _, ok := w.numbers.Get(identity.ID(n)); ok {
		return true
	}
	_, ok := identity.Reserved()[identity.ID(n)]
	return ok
}
