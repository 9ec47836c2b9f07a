package labs

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

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

// deafNodes waits, for patience at most, until controllers are at work and kubelets and others hear from the API server. It
// returns the nodes that run, are not among without, and have kubelets that do not by then, and what is the matter with each.
// say, which may be nil, is told what is waited for.
func (l *Lab) deafNodes(ctx context.Context, without map[string]string, patience time.Duration, say func(string)) map[string]string {
	wants := append(l.controllers(), l.watchersBack())
	for _, n := range l.running() {
		if without[n.Name] == "" {
			wants = append(wants, l.kubeletAnswers(n.Name))
		}
	}
	var late *kube.NotReady
	deaf := map[string]string{}
	if errors.As(l.Kube.WaitFor(ctx, patience, waitingFor(say), wants...), &late) {
		if say != nil {
			say(late.Error())
		}
		for _, p := range late.Problems {
			if p.Blame.Kind == "Node" {
				deaf[p.Blame.Name] = "runs, but " + p.Why
			}
		}
	}
	return deaf
}

// silentKubelets are the nodes that run and whose kubelets do not answer within patience, and what is the matter with each.
// In pods of such a node nothing can be looked at, and what the API server says of it is old.
func (l *Lab) silentKubelets(ctx context.Context, patience time.Duration) map[string]string {
	var mu sync.Mutex
	var all sync.WaitGroup
	silent := map[string]string{}
	for _, n := range l.running() {
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

// kubeletAnswers wants the kubelet of a node to answer, and to hear from the API server. The API server calls a node Ready for
// 40 s after its last report, and a DaemonSet ready on a node that is silent.
func (l *Lab) kubeletAnswers(node string) kube.Want {
	mark := rand.Text()
	return kube.Want{Name: "kubelet of node " + node, Look: func(ctx context.Context) (kube.State, error) {
		blame := kube.Object{Kind: "Node", Name: node}
		err := l.askKubelet(ctx, node)
		if noKubelet(err) {
			return kube.State{Why: "cannot be asked: " + kubeletSilent(node, lastWords(err)).Error(), Blame: blame}, nil
		}
		if err != nil {
			return kube.State{}, err
		}
		heard, err := l.kubeletHears(ctx, node, mark)
		if err != nil || heard {
			return kube.State{Ready: heard}, err
		}
		return kube.State{Why: deafKubelet, Blame: blame}, nil
	}}
}

// deafKubelet is what is the matter with a node whose kubelet answers and does not hear.
const deafKubelet = "hears of no new pods: its kubelet asks an API server that was away again within a minute"

// markOfHearing is the annotation of an agent's pod that is changed to see whether the node's kubelet hears of it.
const markOfHearing = "wirelab.dev/heard"

// kubeletHears tells whether the kubelet of a node hears of changes to pods, by one to the agent's pod there: a mark, which may
// be there already. A kubelet that lost the API server asks it again after up to a minute, and starts no new pod until then,
// while it reports and answers as ever. Where no agent runs there is nothing to hear of, which counts as heard.
func (l *Lab) kubeletHears(ctx context.Context, node, mark string) (bool, error) {
	agents, err := l.agentPods(ctx)
	if err != nil {
		return false, err
	}
	agent := agents[node]
	if agent == nil || agent.Status.Phase != corev1.PodRunning {
		return true, nil
	}
	if agent.Annotations[markOfHearing] != mark {
		if err := l.markPod(ctx, agent, markOfHearing, &mark); err != nil {
			return false, err
		}
	}
	for deadline := time.Now().Add(moment); ; {
		var pods corev1.PodList
		raw, err := l.Kube.CoreV1().RESTClient().Get().Resource("nodes").Name(node).SubResource("proxy").Suffix("pods").Do(ctx).Raw()
		if err == nil {
			err = json.Unmarshal(raw, &pods)
		}
		if err != nil {
			return false, fmt.Errorf("ask the kubelet of node %s for its pods: %w", node, err)
		}
		heard := slices.ContainsFunc(pods.Items, func(p corev1.Pod) bool { return p.UID == agent.UID && p.Annotations[markOfHearing] == mark })
		if heard || time.Now().After(deadline) {
			return heard, nil
		}
		if err := pause(ctx); err != nil {
			return false, err
		}
	}
}

// markPod gives a pod an annotation, or takes it away where value is nil. The pod's kubelet hears of it.
func (l *Lab) markPod(ctx context.Context, p *corev1.Pod, annotation string, value *string) error {
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": map[string]*string{annotation: value}}})
	if err == nil {
		_, err = l.Kube.CoreV1().Pods(p.Namespace).Patch(ctx, p.Name, types.MergePatchType, patch, metav1.PatchOptions{})
	}
	if err != nil {
		return fmt.Errorf("mark pod %s/%s: %w", p.Namespace, p.Name, err)
	}
	return nil
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
