package labs

import (
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"wirelab.dev/wirelab/internal/cluster"
	"wirelab.dev/wirelab/internal/kube"
	"wirelab.dev/wirelab/verify/probe"
)

// capturedLab has a node, and pods in different states on it.
func capturedLab() *Lab {
	pod := func(name string, state corev1.ContainerState, hostNetwork bool) *corev1.Pod {
		return &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
			Spec:       corev1.PodSpec{NodeName: "l-worker", HostNetwork: hostNetwork, Containers: []corev1.Container{{Name: "c"}}},
			Status: corev1.PodStatus{Phase: corev1.PodPending, ContainerStatuses: []corev1.ContainerStatus{
				{Name: "c", State: state, ContainerID: "containerd://" + name + "-id"},
			}},
		}
	}
	running := corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}
	return &Lab{
		Name: "l", Nodes: []cluster.Node{{Name: "l-worker"}, {Name: "l-worker2"}},
		Kube: &kube.Client{Interface: fake.NewClientset(
			pod("cni", running, false), pod("agent", running, true),
			pod("pulls", corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ImagePullBackOff"}}, false),
			pod("over", corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{Reason: "Completed"}}, false),
			pod("waits", corev1.ContainerState{}, false),
		)},
	}
}

func TestCaptureTargets(t *testing.T) {
	l := capturedLab()
	for _, tt := range []struct {
		at   string
		want string // nodes and what nettool is asked for, or the error
	}{
		{"cni", "l-worker {cni-id default/cni eth0 invalid IP false}, l-worker {cni-id default/cni eth0 invalid IP true}"},
		{"default/cni:lo", "l-worker {cni-id default/cni lo invalid IP false}"},
		{"worker2:eth0", "l-worker2 {  eth0 invalid IP false}"},
		{"worker", "l-worker {   invalid IP false}"}, // with the node's address where it runs
		{"worker:lxc1 l-worker:lxc1 cni:eth0 cni", "l-worker {  lxc1 invalid IP false}, l-worker {cni-id default/cni eth0 invalid IP false}, l-worker {cni-id default/cni eth0 invalid IP true}"},
		{"cni:", "cni:: no device after the colon"},
		{"agent", "pod default/agent has no devices but its node's: capture at l-worker instead"},
		{"pulls", "pod default/pulls does not run: it is ImagePullBackOff"},
		{"over", "pod default/over does not run: it is over (Completed)"},
		{"waits", "pod default/waits does not run: it is Pending"},
		{"nobody", `lab "l" has neither a node nor a pod "nobody": nodes are l-worker, l-worker2; lab endpoint list has the pods`},
		{"wrker2", `lab "l" has neither a node nor a pod "wrker2": did you mean worker2? nodes are l-worker, l-worker2; lab endpoint list has the pods`},
		{"cnii", `lab "l" has neither a node nor a pod "cnii": did you mean cni? nodes are l-worker, l-worker2; lab endpoint list has the pods`},
	} {
		taps, err := l.taps(t.Context(), strings.Fields(tt.at))
		var got []string
		for _, n := range l.Nodes {
			if taps[n.Name] == nil {
				continue
			}
			for _, p := range taps[n.Name].points {
				got = append(got, fmt.Sprint(n.Name, " ", p.where))
			}
		}
		if text := strings.Join(got, ", "); err == nil && text != tt.want || err != nil && err.Error() != tt.want {
			t.Errorf("%s: %s, %v\nwant %s", tt.at, text, err, tt.want)
		}
	}
}

// TestListenedAt: points of nodes that are away are left out, the others are in the order in which they were asked for.
func TestListenedAt(t *testing.T) {
	l := capturedLab()
	taps, err := l.taps(t.Context(), []string{"worker2", "cni", "worker:lo"})
	if err != nil {
		t.Fatal(err)
	}
	taps["l-worker"].devices = []probe.TapDevice{{Name: "eth0"}, {Name: "lxc1"}, {Name: "lo"}}
	taps["l-worker2"].devices = []probe.TapDevice{{Name: "wg0", Raw: true}}
	names := func(nodes ...string) (out string) {
		for _, p := range listenedAt(l, nodes, taps) {
			out += fmt.Sprintf("%s %s %s %t %t; ", p.Name, p.Node, p.Pod, p.Host, p.Raw)
		}
		return out
	}
	const ofWorker = "default/cni:eth0 l-worker default/cni false false; worker:lxc1 l-worker default/cni true false; worker:lo l-worker  false false; "
	if got, want := names("worker", "worker2"), "worker2:wg0 l-worker2  false true; "+ofWorker; got != want {
		t.Errorf("all: %s\nwant %s", got, want)
	}
	if got := names("worker"); got != ofWorker || taps["l-worker2"].points[0].index >= 0 {
		t.Errorf("one node is away: %s\nwant %s", got, ofWorker)
	}
}

// TestTapDecode: what nettool tells becomes lines, and what it counts is kept.
func TestTapDecode(t *testing.T) {
	at := time.Now()
	tap := &tap{points: []*tapped{{}, {}}}
	r, w := io.Pipe()
	go func() {
		enc := gob.NewEncoder(w)
		for _, said := range []probe.Tapped{
			{Listening: []probe.TapDevice{{Name: "eth0"}, {Name: "lxc1"}}},
			{Mark: &probe.TapMark{UpTo: at, Dropped: []int{0, 0}}},
			{Packet: &probe.TapPacket{Point: 1, At: at, Data: []byte("packet"), Length: 6}},
			{Gone: &probe.TapGone{Point: 0, Why: "the device is gone"}},
			{Mark: &probe.TapMark{UpTo: at.Add(1), Dropped: []int{0, 7}}},
		} {
			_ = enc.Encode(said)
		}
		_ = w.CloseWithError(errors.New("it ended"))
	}()
	var got []string
	begun, err := tap.decode(r, func(told line[crossing]) error {
		switch {
		case told.seen == nil:
			got = append(got, fmt.Sprint("mark ", told.upTo.Sub(at).Nanoseconds()))
		case told.seen.packet != nil:
			got = append(got, fmt.Sprintf("%s %t %t", told.seen.packet.Data, told.seen.at == tap.points[1], told.at.Equal(at)))
		default:
			got = append(got, fmt.Sprintf("%s %t", told.seen.gone, told.seen.at == tap.points[0]))
		}
		return nil
	})
	if want := "mark 0; packet true true; the device is gone true; mark 1"; !begun || err == nil || err.Error() != "it ended" || strings.Join(got, "; ") != want {
		t.Errorf("begun %t, %v: %s\nwant %s", begun, err, strings.Join(got, "; "), want)
	}
	if tap.points[1].dropped != 7 || tap.points[0].gone == "" || tap.devices[1].Name != "lxc1" {
		t.Errorf("kept: %+v, %+v", *tap.points[0], *tap.points[1])
	}
}
