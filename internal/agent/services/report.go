package services

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	listers "k8s.io/client-go/listers/core/v1"

	"wirelab.dev/wirelab/datapath/lb"
	"wirelab.dev/wirelab/internal/agent/notices"
	"wirelab.dev/wirelab/internal/api"
)

// Report is what the node does not carry of Services and its pods' host ports,
// for status and, by an event on each object, for who made it.
type Report struct {
	pods     listers.PodLister
	services *Watch // nil where the agent carries no Services
	speakers func() ([]string, error)
	node     string
	teller   notices.Teller
	clock    func() time.Time

	mu      sync.Mutex
	current []api.LeftOut // sorted, each once; replaced as a whole
	wake    func()        // what is said may be something else

	told map[notice]time.Time // used by one tell at a time
}

// notice is all that is said for one reason of one object.
type notice struct{ kind, namespace, name, reason, message string }

const (
	// toldAgain is when an object's owner is told again what is so all the
	// while: by default events are kept for an hour.
	toldAgain = time.Hour
	// tellerErrors is after how many failures the rest has to wait.
	tellerErrors = 3
	// tellers are the nodes whose agents say what is the same on every node.
	tellers = 3
	// longestNotice is what the API takes.
	longestNotice = 1000
)

// NewReport returns an empty report of the node. services may be nil; speakers are the nodes whose agents work.
func NewReport(pods listers.PodLister, services *Watch, speakers func() ([]string, error), node string, t notices.Teller) *Report {
	return &Report{
		pods: pods, services: services, speakers: speakers, node: node, teller: t,
		clock: time.Now, wake: func() {}, told: map[notice]time.Time{},
	}
}

// Set replaces all of it: what the datapath has left out, and what never came to it.
func (r *Report) Set(parts ...[]api.LeftOut) {
	now := slices.Concat(parts...)
	slices.SortFunc(now, api.LeftOut.Compare)
	now = slices.Compact(now)
	r.mu.Lock()
	same := slices.Equal(now, r.current)
	r.current = now
	wake := r.wake
	r.mu.Unlock()
	if !same {
		wake()
	}
}

// Get returns all of it, sorted. It is not to be changed.
func (r *Report) Get() []api.LeftOut {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.current
}

// OnChange has f called when there is something else to say.
func (r *Report) OnChange(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.wake = f
}

// Tell makes the events that have not been made yet. It is to be called again
// after a while, as events do not last.
func (r *Report) Tell(ctx context.Context) error {
	speakers, err := r.speakers()
	if err != nil {
		return err
	}
	var errs []error
	told := map[notice]time.Time{}
	for _, n := range noticesOf(r.Get()) {
		at, known := r.told[n]
		if !known || r.clock().Sub(at) >= toldAgain {
			if len(errs) >= tellerErrors {
				continue
			}
			if err := r.tellOf(ctx, n, speakers); err != nil {
				errs = append(errs, err)
				continue
			}
			at = r.clock()
		}
		told[n] = at
	}
	r.told = told
	return errors.Join(errs...)
}

func (r *Report) tellOf(ctx context.Context, n notice, speakers []string) error {
	about := corev1.ObjectReference{APIVersion: "v1", Kind: n.kind, Namespace: n.namespace, Name: n.name}
	about.UID = r.uidOf(n)
	if about.UID == "" || !r.isTeller(n, string(about.UID), speakers) {
		return nil // it has gone, or others say it
	}
	h := fnv.New64a()
	h.Write([]byte(n.message))
	return r.teller.Warn(ctx, about, int64(h.Sum64()), n.reason, n.message) //nolint:gosec // a number for what is said
}

// isTeller says whether it is for this node's agent to say it. What follows
// from the object alone every agent finds; the rest depends on the node.
func (r *Report) isTeller(n notice, uid string, speakers []string) bool {
	switch n.reason {
	case lb.NotCarried, lb.NotValid, lb.Duplicate:
		return n.kind != api.LeftOutService || slices.Contains(notices.Rank(speakers, uid, tellers), r.node)
	}
	return true
}

// uidOf is empty when there is no such object any more.
func (r *Report) uidOf(n notice) types.UID {
	if n.kind == api.LeftOutPod {
		if pod, err := r.pods.Pods(n.namespace).Get(n.name); err == nil {
			return pod.UID
		}
		return ""
	}
	if r.services == nil {
		return ""
	}
	if svc, err := r.services.services.Services(n.namespace).Get(n.name); err == nil {
		return svc.UID
	}
	return ""
}

// noticesOf puts together what is said for one reason of one object.
func noticesOf(sorted []api.LeftOut) []notice {
	var out []notice
	for i := 0; i < len(sorted); {
		first := sorted[i]
		var messages []string
		for ; i < len(sorted) && sorted[i].Kind == first.Kind && sorted[i].Namespace == first.Namespace && sorted[i].Name == first.Name && sorted[i].Reason == first.Reason; i++ {
			messages = append(messages, sorted[i].Message)
		}
		message := strings.Join(messages, "; ")
		if len(message) > longestNotice {
			message = strings.ToValidUTF8(message[:longestNotice], "") + " …"
		}
		out = append(out, notice{first.Kind, first.Namespace, first.Name, first.Reason, message})
	}
	return out
}

// leftOutOf is what is left out of Services, by "namespace/name".
func leftOutOf(all []api.LeftOut) map[string][]string {
	out := map[string][]string{}
	for _, x := range all {
		if x.Kind == api.LeftOutService {
			name := fmt.Sprintf("%s/%s", x.Namespace, x.Name)
			out[name] = append(out[name], x.Message)
		}
	}
	return out
}
