// Package identities is an agent's part in identities: which numbers the cluster has, and which number each pod of the
// node has.
package identities

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"sync/atomic"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"

	"wirelab.dev/wirelab/internal/crd"
	"wirelab.dev/wirelab/internal/identity"
	"wirelab.dev/wirelab/internal/watch"
)

// Objects are the cluster's LabIdentities.
type Objects = crd.Resource[*crd.LabIdentity, *crd.LabIdentityList]

// Watch follows the cluster's identities.
type Watch struct {
	objects  Objects
	informer crd.Informer[crd.LabIdentity, *crd.LabIdentity]
	numbers  cache.ResourceEventHandlerRegistration // of heard
	alloc    *identity.Allocator
	changed  atomic.Pointer[func()]
}

// NewWatch makes the informer without starting it.
func NewWatch(objects Objects) (*Watch, error) {
	w := &Watch{objects: objects, informer: crd.NewInformer(objects)}
	w.alloc = identity.NewAllocator(identity.NewNumbers(), store{objects})
	var err error
	w.numbers, err = w.informer.AddEventHandler(watch.OnChange(w.heard))
	if err != nil {
		return nil, fmt.Errorf("watch LabIdentities: %w", err)
	}
	return w, nil
}

func (w *Watch) heard(old, now *crd.LabIdentity) {
	if now == nil {
		if e, ok := entry(old); ok {
			w.alloc.Numbers.Delete(e.ID)
		}
	} else if e, ok := entry(now); !ok || !w.alloc.Numbers.Put(e) {
		return
	}
	if changed := w.changed.Load(); changed != nil {
		(*changed)()
	}
}

// Follow has changed called when a number may be that of another set, or of none any more.
func (w *Watch) Follow(changed func()) { w.changed.Store(&changed) }

// Run keeps the cache until ctx is done.
func (w *Watch) Run(ctx context.Context) { w.informer.RunWithContext(ctx) }

// HasSynced says whether all numbers of the first list are known.
func (w *Watch) HasSynced() bool { return w.numbers.HasSynced() }

// errNotListed says that the first list of identities is not here yet.
var errNotListed = errors.New("the list of LabIdentities is on its way")

// Listed returns why there is no list of identities yet, for which it asks the API server.
func (w *Watch) Listed(ctx context.Context) error {
	if w.HasSynced() {
		return nil
	}
	if _, err := w.objects.List(ctx, metav1.ListOptions{Limit: 1}); err != nil {
		return fmt.Errorf("list LabIdentities: %w", crd.Explain(crd.LabIdentities, err))
	}
	return errNotListed
}

// Of is the number of a set, which gets one if it has none. Before there is a list it is an error.
func (w *Watch) Of(ctx context.Context, s identity.Set) (identity.ID, error) {
	if !w.HasSynced() {
		return identity.Unknown, errNotListed
	}
	return w.alloc.Get(ctx, s)
}

// Numbers are the identities that are known.
func (w *Watch) Numbers() *identity.Numbers { return w.alloc.Numbers }

// entry is what an object says; false for one whose name is no number of pods, which the API server refuses.
func entry(o *crd.LabIdentity) (identity.Entry, bool) {
	n, err := strconv.ParseUint(o.Name, 10, 32)
	id := identity.ID(n)
	return identity.Entry{
		ID:          id,
		Set:         identity.Set{Namespace: o.Spec.Namespace, ServiceAccount: o.Spec.ServiceAccount, Labels: o.Spec.Labels},
		UnusedSince: unusedSince(o),
	}, err == nil && id.OfPods()
}

// unusedSince is the zero Time for one that is in use. A mark that cannot be read is no mark: it deletes nothing.
func unusedSince(o *crd.LabIdentity) time.Time {
	at, err := time.Parse(time.RFC3339, o.Annotations[crd.Unused])
	if err != nil {
		return time.Time{}
	}
	return at
}

// store is the cluster's identities as an [identity.Store].
type store struct{ objects Objects }

func (s store) Create(ctx context.Context, id identity.ID, set identity.Set) error {
	o := &crd.LabIdentity{
		ObjectMeta: metav1.ObjectMeta{Name: strconv.Itoa(int(id))},
		Spec:       crd.LabIdentitySpec{Namespace: set.Namespace, ServiceAccount: set.ServiceAccount, Labels: maps.Clone(set.Labels)},
	}
	_, err := s.objects.Create(ctx, o, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		return identity.ErrTaken
	}
	return crd.Explain(crd.LabIdentities, err)
}

func (s store) Read(ctx context.Context, id identity.ID) (identity.Entry, error) {
	o, err := s.objects.Get(ctx, strconv.Itoa(int(id)), metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return identity.Entry{}, identity.ErrNone
	}
	if err != nil {
		return identity.Entry{}, crd.Explain(crd.LabIdentities, err)
	}
	e, ok := entry(o)
	if !ok {
		return identity.Entry{}, identity.ErrNone
	}
	return e, nil
}
