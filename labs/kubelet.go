package labs

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"wirelab.dev/wirelab/internal/kube"
)

const (
	// kubeletPatience is how long a kubelet, and the containers that it starts, may take to be there after a restart of
	// their node before the checks do without them.
	kubeletPatience = 20 * time.Second
	// agentPatience is the same for commands that a person waits for.
	agentPatience = 10 * time.Second
	// beginTimeout is how long an agent that is followed may take to tell anything, where it may have to start.
	beginTimeout = agentPatience + askTimeout
)

// noKubelet tells whether an error is the API server's that it does not reach a node's kubelet: no command runs in a pod
// there and no log can be read, while pods may run on. A kubelet that has stopped refuses; one that hangs lets it connect,
// and says no more.
func noKubelet(err error) bool {
	if err == nil {
		return false
	}
	words := err.Error()
	return strings.Contains(words, "error trying to reach service") || strings.Contains(words, "error dialing backend") ||
		strings.Contains(words, ":10250") && (strings.Contains(words, "dial tcp") || strings.Contains(words, "TLS handshake timeout"))
}

// noContainer tells whether an error is a kubelet's that the container asked for does not run, or is not known to it yet.
func noContainer(err error) bool {
	return err != nil && (strings.Contains(err.Error(), "container not found") || strings.Contains(err.Error(), "pod does not exist") || apierrors.IsNotFound(err) && strings.Contains(err.Error(), "pods/log"))
}

// explainKubelet says what such an error about something on a node means, where the node has been named; others it returns
// as they are.
func explainKubelet(node, what string, err error) error {
	switch {
	case noKubelet(err):
		return kubeletSilent(node, lastWords(err))
	case noContainer(err):
		return fmt.Errorf("%s does not run there, or not yet", what)
	}
	return err
}

func kubeletSilent(node, why string) error {
	return fmt.Errorf("its kubelet does not answer (%s): lab shell %s -- systemctl status kubelet says why", why, node)
}

// lastWords are the reason at the end of an error that says what was tried, too.
func lastWords(err error) string {
	words := err.Error()
	return words[strings.LastIndex(words, ": ")+2:]
}

// onNode is explainKubelet where the node has not been named.
func onNode(node, what string, err error) error {
	if noKubelet(err) || noContainer(err) {
		return fmt.Errorf("node %s: %w", node, explainKubelet(node, what, err))
	}
	return err
}

// whenStarted runs do again, for patience at most, while a kubelet or the container it is to run in does not answer: a node
// that was just restarted takes some seconds.
func whenStarted(ctx context.Context, patience time.Duration, do func() error) error {
	for deadline := time.Now().Add(patience); ; {
		err := do()
		if !noKubelet(err) && !noContainer(err) || time.Now().After(deadline) || pause(ctx) != nil {
			return err
		}
	}
}

// silentKubelets are the nodes that run and whose kubelets do not answer within patience, and what is the matter with each.
// In pods of such a node nothing can be looked at, and what the API server says of it is old.
func (l *Lab) silentKubelets(ctx context.Context, patience time.Duration) map[string]string {
	var mu sync.Mutex
	var all sync.WaitGroup
	silent := map[string]string{}
	for _, n := range l.Nodes {
		if n.Down() != "" {
			continue
		}
		all.Go(func() {
			asked, cancel := context.WithTimeout(ctx, patience)
			defer cancel()
			err := whenStarted(asked, patience, func() error { return l.askKubelet(asked, n.Name) })
			why := ""
			switch {
			case noKubelet(err):
				why = lastWords(err)
			case errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil:
				why = fmt.Sprintf("not within %s", patience)
			default:
				return
			}
			mu.Lock()
			defer mu.Unlock()
			silent[n.Name] = "runs, but " + kubeletSilent(n.Name, why).Error()
		})
	}
	all.Wait()
	return silent
}

// kubeletAnswers wants the kubelet of a node to answer. The API server calls a node Ready for 40 s after its last report, and
// a DaemonSet ready on a node that is silent.
func (l *Lab) kubeletAnswers(node string) kube.Want {
	return kube.Want{Name: "kubelet of node " + node, Look: func(ctx context.Context) (kube.State, error) {
		err := l.askKubelet(ctx, node)
		if noKubelet(err) {
			return kube.State{Why: "cannot be asked: " + kubeletSilent(node, lastWords(err)).Error(), Blame: kube.Object{Kind: "Node", Name: node}}, nil
		}
		return kube.State{Ready: err == nil}, err
	}}
}

// askKubelet asks a kubelet for its health by way of the API server, as commands in pods go.
func (l *Lab) askKubelet(ctx context.Context, node string) error {
	err := l.Kube.CoreV1().RESTClient().Get().Resource("nodes").Name(node).SubResource("proxy").Suffix("healthz").Do(ctx).Error()
	var status apierrors.APIStatus
	if errors.As(err, &status) { // the message alone says less: it leaves out what the API server met
		if d := status.Status().Details; d != nil && len(d.Causes) > 0 {
			return fmt.Errorf("%w: %s", err, d.Causes[0].Message)
		}
	}
	return err
}
