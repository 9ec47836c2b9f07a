package agent

import (
	"cmp"
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

	"wirelab.dev/wirelab/datapath/lb"
	"wirelab.dev/wirelab/internal/api"
)

// leftOut is what the node does not carry of Services and its pods' host ports,
// for status and, by an event on each object, for who made it.
type leftOut struct {
	kube    *kube
	node    string
	notices notices
	clock   func() time.Time

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

func newLeftOut(k *kube, node string, n notices) *leftOut {
	return &leftOut{kube: k, node: node, notices: n, clock: time.Now, wake: func() {}, told: map[notice]time.Time{}}
}

// set replaces all of it.
func (l *leftOut) set(parts ...[]api.LeftOut) {
	now := slices.Concat(parts...)
	slices.SortFunc(now, compareLeftOut)
	now = slices.Compact(now)
	l.mu.Lock()
	same := slices.Equal(now, l.current)
	l.current = now
	wake := l.wake
	l.mu.Unlock()
	if !same {
		wake()
	}
}

func (l *leftOut) get() []api.LeftOut {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.current
}

// watch has f called when there is something else to say.
func (l *leftOut) watch(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.wake = f
}

// tell makes the events that have not been made yet. It is to be called again
// after a while, as events do not last.
func (l *leftOut) tell(ctx context.Context) error {
	speakers, err := l.kube.agentNodes()
	if err != nil {
		return err
	}
	var errs []error
	told := map[notice]time.Time{}
	for _, n := range noticesOf(l.get()) {
		at, known := l.told[n]
		if !known || l.clock().Sub(at) >= toldAgain {
			if len(errs) >= tellerErrors {
				continue
			}
			if err := l.tellOf(ctx, n, speakers); err != nil {
				errs = append(errs, err)
				continue
			}
			at = l.clock()
		}
		told[n] = at
	}
	l.told = told
	return errors.Join(errs...)
}

func (l *leftOut) tellOf(ctx context.Context, n notice, speakers []string) error {
	about := corev1.ObjectReference{APIVersion: "v1", Kind: n.kind, Namespace: n.namespace, Name: n.name}
	about.UID = l.uidOf(n)
	if about.UID == "" || !l.isTeller(n, string(about.UID), speakers) {
		return nil // it has gone, or others say it
	}
	h := fnv.New64a()
	h.Write([]byte(n.message))
	return l.notices.warn(ctx, about, int64(h.Sum64()), n.reason, n.message) //nolint:gosec // a number for what is said
}

// isTeller says whether it is for this node's agent to say it. What follows
// from the object alone every agent finds; the rest depends on the node.
func (l *leftOut) isTeller(n notice, uid string, speakers []string) bool {
	switch lb.SkipReason(n.reason) {
	case lb.NotCarried, lb.NotValid, lb.Duplicate:
		return n.kind != "Service" || slices.Contains(rank(speakers, uid, tellers), l.node)
	}
	return true
}

// uidOf is empty when there is no such object any more.
func (l *leftOut) uidOf(n notice) types.UID {
	if n.kind == "Pod" {
		if pod, err := l.kube.pods.Pods(n.namespace).Get(n.name); err == nil {
			return pod.UID
		}
		return ""
	}
	if l.kube.services == nil {
		return ""
	}
	if svc, err := l.kube.services.services.Services(n.namespace).Get(n.name); err == nil {
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

func compareLeftOut(a, b api.LeftOut) int {
	return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name),
		cmp.Compare(a.Reason, b.Reason), cmp.Compare(a.Message, b.Message))
}

// apiLeftOut says what the datapath leaves out in the API's words.
func apiLeftOut(skipped []lb.Skipped) []api.LeftOut {
	out := make([]api.LeftOut, len(skipped))
	for i, s := range skipped {
		out[i] = api.LeftOut{Kind: "Service", Namespace: s.Namespace, Name: s.Name, Reason: string(s.Reason), Message: s.Message}
		if s.Kind == lb.SkippedHostPort {
			out[i].Kind = "Pod"
		}
	}
	return out
}

// leftOutOf is what is left out of Services, by "namespace/name".
func leftOutOf(all []api.LeftOut) map[string][]string {
	out := map[string][]string{}
	for _, x := range all {
		if x.Kind == "Service" {
			name := fmt.Sprintf("%s/%s", x.Namespace, x.Name)
			out[name] = append(out[name], x.Message)
		}
	}
	return out
}
