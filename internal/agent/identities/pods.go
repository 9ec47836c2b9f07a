package identities

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	listers "k8s.io/client-go/listers/core/v1"

	"wirelab.dev/wirelab/internal/identity"
)

const (
	// Patience is how long a pod's start waits for its identity. The kubelet and this agent hear of a pod from the same
	// API server at about the same time, long before the runtime asks for its network.
	Patience = 5 * time.Second
	// retry is how soon the API server is asked again.
	retry = 200 * time.Millisecond
)

// mirror is the annotation in which the kubelet's copy of a static pod has the UID by which the container runtime knows
// it.
const mirror = corev1.MirrorPodAnnotationKey

// Pods finds the identities of the node's pods.
type Pods struct {
	pods   listers.PodLister
	filter identity.Filter
	of     func(context.Context, identity.Set) (identity.ID, error)
	log    *slog.Logger

	mu      sync.Mutex
	changed chan struct{} // closed at the next change of a pod
}

// NewPods finds the labels of pods with lister, as far as filter counts them, and the numbers of sets with of.
func NewPods(lister listers.PodLister, filter identity.Filter, of func(context.Context, identity.Set) (identity.ID, error), log *slog.Logger) *Pods {
	return &Pods{pods: lister, filter: filter, of: of, log: log, changed: make(chan struct{})}
}

// Changed wakes those that wait for a pod.
func (p *Pods) Changed() {
	p.mu.Lock()
	defer p.mu.Unlock()
	close(p.changed)
	p.changed = make(chan struct{})
}

// next is closed at the next change of a pod.
func (p *Pods) next() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.changed
}

// ErrNoPod says that the API server has not told of a pod.
var ErrNoPod = errors.New("the API server has not told of the pod")

// Await is the identity of a pod that starts: [identity.Init] when it is not known after [Patience], which the log says
// then. UID may be empty.
func (p *Pods) Await(ctx context.Context, namespace, name, uid string) identity.ID {
	if name == "" {
		return identity.Unmanaged
	}
	ctx, cancel := context.WithTimeout(ctx, Patience)
	defer cancel()
	for {
		changed := p.next()
		id, err := p.Of(ctx, namespace, name, func(pod *corev1.Pod) bool { return uid == "" || Is(pod, uid) })
		if err == nil {
			return id
		}
		var again <-chan time.Time
		if !errors.Is(err, ErrNoPod) {
			again = time.After(retry)
		}
		select {
		case <-changed:
		case <-again:
		case <-ctx.Done():
			p.log.Warn("the pod starts with identity init, as its own is not known yet", "pod", namespace+"/"+name, "waited", Patience, "err", err)
			return identity.Init
		}
	}
}

// Is says whether the container runtime calls pod by uid.
func Is(pod *corev1.Pod, uid string) bool {
	return string(pod.UID) == uid || pod.Annotations[mirror] == uid
}

// Of is the identity of the pod of that name, if it is the right one of those that have had the name.
func (p *Pods) Of(ctx context.Context, namespace, name string, right func(*corev1.Pod) bool) (identity.ID, error) {
	pod, err := p.pods.Pods(namespace).Get(name)
	if err != nil || !right(pod) {
		return identity.Unknown, ErrNoPod
	}
	s := Set(pod, p.filter)
	id, err := p.of(ctx, s)
	if err != nil {
		return identity.Unknown, fmt.Errorf("find the identity of pod %s/%s: %w", namespace, name, err)
	}
	return id, nil
}

// Set is what a pod has in common with those of the same identity.
func Set(pod *corev1.Pod, f identity.Filter) identity.Set {
	account := pod.Spec.ServiceAccountName
	if account == "" {
		account = "default" // static pods have none
	}
	return identity.Set{Namespace: pod.Namespace, ServiceAccount: account, Labels: f.Of(pod.Labels)}
}
