//go:build e2e

package e2e

import (
	"bytes"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// testServerAway takes the API server away while pings and requests run between pods of two workers. Meanwhile a pod starts
// on the one, whose agent runs on; the agents of both and the operator are killed, and then a pod starts on the other. Not
// one ping may be lost and not one request fail, and the new pods must be reached and reach others. When it is back, lab verify
// waits for kubelets that have not heard of that yet.
func testServerAway(t *testing.T, name string) {
	var workers []pod
	for _, p := range podsOf(t, name, "default", "app=demo") {
		if p.Node != name+"-control-plane" {
			workers = append(workers, p)
		}
	}
	if len(workers) < 2 || workers[0].Node == workers[1].Node {
		t.Fatalf("this needs demo pods on two workers: %v", workers)
	}
	a, b := workers[0], workers[1]
	image := kubectl(t, name, "get", "daemonset", "demo", "-o", "jsonpath={.spec.template.spec.containers[0].image}")
	service := kubectl(t, name, "get", "service", "demo", "-o", "jsonpath={.spec.clusterIP}:{.spec.ports[0].port}")
	operator := podsOf(t, name, "kube-system", "app.kubernetes.io/name=wirelab-operator")
	if len(operator) != 1 {
		t.Fatalf("there are %d operators", len(operator))
	}
	for _, p := range []pod{a, b} {
		onNode(t, p.Node, "mkdir", "-p", staticPods) // workers have none, and kubelets look for it now and then
	}
	pings := []*pinging{startPing(t, a, b.IP), startPing(t, b, a.IP)}
	loads := []*load{startLoad(t, a, b.IP), startLoad(t, b, service)}

	began := time.Now()
	takeServerAway(t, name)
	t.Logf("the API server ended %.1f s after it was told to", time.Since(began).Seconds())
	away := time.Now()
	onNode(t, operator[0].Node, "pkill", "-KILL", "-x", "wirelab-operato") // 15 letters of a name are all there is
	startStatic(t, a.Node, image)
	killAgent(t, b.Node)
	wantStatic(t, a.Node, b)
	t.Logf("a pod whose node's agent runs is reached %.1f s after the API server ended", time.Since(away).Seconds())
	killAgent(t, a.Node)
	killed := time.Now()
	startStatic(t, b.Node, image)
	wantStatic(t, b.Node, a)
	t.Logf("a pod whose node's agent was killed is reached %.1f s after it was made", time.Since(killed).Seconds())
	if out, err := command("docker", "exec", name+"-control-plane", "kubectl", "--kubeconfig", "/etc/kubernetes/admin.conf", "get", "--raw", "/readyz"); err == nil {
		t.Fatalf("the API server was there all the time: %s", out)
	}
	t.Logf("the API server was away for %.1f s", time.Since(away).Seconds())
	bringServerBack(t, name)
	back := time.Now()
	verifying, _, verified := labCommand(t.Context(), "verify", name, "--only", "pods/*")
	if err := verifying.Start(); err != nil {
		t.Fatal(err)
	}
	for _, node := range []string{a.Node, b.Node} {
		eventually(t, 2*time.Minute, "the pod that started on "+node+" has an identity of its own", func() string {
			endpoints := kubectl(t, name, "get", "labnode", node, "-o", `jsonpath={range .status.endpoints[*]}{.pod} {.identity}{"\n"}{end}`)
			_, after, _ := strings.Cut(endpoints, "default/"+staticName(node)+" ")
			id, _, _ := strings.Cut(after, "\n")
			if n, err := strconv.Atoi(id); err != nil || n < 256 {
				return endpoints
			}
			return ""
		})
	}
	t.Logf("both pods have identities of their own %.1f s after the API server was back", time.Since(back).Seconds())
	eventually(t, 2*time.Minute, "the lab is ready", func() string {
		if o := lab(t, "status", name); o.code != 0 {
			return o.stdout + o.stderr
		}
		return ""
	})
	t.Logf("the lab is ready %.1f s after the API server was back", time.Since(back).Seconds())
	if err := verifying.Wait(); err != nil {
		t.Errorf("lab verify, as soon as the API server was back: %v: %s", err, verified)
	}
	t.Logf("lab verify, as soon as the API server was back, has said\n%s", verified)
	if !strings.Contains(verified.String(), "waiting for DNS and agents to hear from the API server") {
		t.Error("lab verify has not said that it waits")
	}
	for _, l := range loads {
		sent, failures := l.stop()
		if sent == 0 || len(failures) > 0 {
			t.Errorf("from %s to %s: %d requests, of which failed: %s", l.from, l.to, sent, strings.Join(failures, "; "))
		}
		t.Logf("from %s to %s: %d requests", l.from, l.to, sent)
	}
	for _, p := range pings {
		t.Logf("from %s to %s: %d pings answered", p.from, p.to, p.stop(t))
	}
}

const (
	staticPods     = "/etc/kubernetes/manifests"
	serverManifest = staticPods + "/kube-apiserver.yaml"
	serverAside    = "/etc/kubernetes/kube-apiserver.aside"
)

// takeServerAway ends the API server for as long as its manifest is elsewhere, at most until the test ends: those that
// follow find it back.
func takeServerAway(t *testing.T, lab string) {
	t.Helper()
	node := lab + "-control-plane"
	t.Cleanup(func() {
		if out, err := command("docker", "exec", node, "bash", "-c", "[ ! -e "+serverAside+" ] || mv "+serverAside+" "+serverManifest); err != nil {
			t.Fatalf("put the API server's manifest back: %v: %s", err, out)
		}
		wantServer(t, node)
	})
	onNode(t, node, "mv", serverManifest, serverAside)
	eventually(t, time.Minute, "the API server ends", func() string {
		// It takes its time to end, and the kubelet starts another as long as it has not seen that the manifest is gone.
		onNode(t, node, "bash", "-c", "pkill -KILL -x kube-apiserver || true")
		return onNode(t, node, "bash", "-c", processes("kube-system", "kube-apiserver-"+node, "sandbox"))
	})
}

func bringServerBack(t *testing.T, lab string) {
	t.Helper()
	node := lab + "-control-plane"
	onNode(t, node, "mv", serverAside, serverManifest)
	wantServer(t, node)
}

// wantServer waits for the API server of a control plane's node.
func wantServer(t *testing.T, node string) {
	t.Helper()
	eventually(t, 2*time.Minute, "the API server is back", func() string {
		if _, err := command("docker", "exec", node, "kubectl", "--kubeconfig", "/etc/kubernetes/admin.conf", "get", "--raw", "/readyz"); err != nil {
			return err.Error()
		}
		return ""
	})
}

// killAgent kills the agent of a node, and waits until another one runs there.
func killAgent(t *testing.T, node string) {
	t.Helper()
	old := onNode(t, node, "pgrep", "-o", "-x", "wirelab-agent")
	onNode(t, node, "kill", "-KILL", old)
	eventually(t, time.Minute, "an agent runs on "+node, func() string {
		if now := onNode(t, node, "bash", "-c", "pgrep -o -x wirelab-agent || true"); now == "" || now == old {
			return "process " + now
		}
		return ""
	})
}

// staticName is what the kubelet makes of the name of a static pod.
func staticName(node string) string { return "static-" + node }

// startStatic gives a kubelet a pod that it starts by itself, until the test ends.
func startStatic(t *testing.T, node, image string) {
	t.Helper()
	const path = staticPods + "/static.yaml"
	t.Cleanup(func() {
		if _, err := command("docker", "exec", node, "rm", "-f", path); err != nil {
			t.Error(err)
		}
	})
	manifest := fmt.Sprintf(staticManifest, image)
	onNode(t, node, "bash", "-c", "echo \"$0\" >/etc/kubernetes/static.new && mv /etc/kubernetes/static.new "+path, manifest)
}

const staticManifest = `
apiVersion: v1
kind: Pod
metadata: {name: static, namespace: default, labels: {app: static}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - {name: nettool, image: %q, imagePullPolicy: Never}
`

// wantStatic waits until the static pod of a node runs. It and other then answer each other, without an API server, and
// nobody has told the agent who the new pod is.
func wantStatic(t *testing.T, node string, other pod) {
	t.Helper()
	static := pod{Name: staticName(node), Node: node}
	eventually(t, time.Minute, "the static pod of "+node+" runs", func() string {
		process := onNode(t, node, "bash", "-c", processes("default", static.Name, "container"))
		if process == "" {
			return "it has no process"
		}
		static.IP = onNode(t, node, "bash", "-c", "nsenter -n -t "+process+" ip -j -4 addr show dev eth0 | jq -r '.[0].addr_info[0].local'")
		return ""
	})
	for _, way := range []struct{ from, to pod }{{static, other}, {other, static}} {
		if out, err := command("docker", inPod(way.from, "nettool", "probe", "http", "http://"+way.to.IP+"/")...); err != nil {
			t.Errorf("from %s to %s (%s): %v: %s", way.from.Name, way.to.Name, way.to.IP, err, out)
		}
	}
	logs := onNode(t, node, "bash", "-c", "grep -h 'identity init' /var/log/pods/kube-system_wirelab-agent-*/agent/*.log || true")
	if !strings.Contains(logs, "default/"+static.Name) {
		t.Errorf("the agent of %s does not say that pod %s starts with identity init: %s", node, static.Name, logs)
	}
}

// processes is the command that prints the processes of a pod's containers, or of its sandbox, as the container runtime knows
// them: the API server is not asked.
func processes(namespace, name, kind string) string {
	return fmt.Sprintf(`for c in $(ctr -n k8s.io containers ls -q 'labels."io.kubernetes.pod.namespace"==%s,labels."io.kubernetes.pod.name"==%s,labels."io.cri-containerd.kind"==%s'); do `+
		`ctr -n k8s.io tasks ls | awk -v c="$c" '$1 == c && $3 == "RUNNING" {print $2}'; done`, namespace, name, kind)
}

// inPod are docker's arguments for a command in the one container of a pod of namespace default.
func inPod(p pod, argv ...string) []string {
	return append([]string{"exec", p.Node, "bash", "-c", `exec nsenter -n -m -t "$(` + processes("default", p.Name, "container") + `)" "$@"`, "in"}, argv...)
}

const (
	pingPID = "/run/e2e-ping.pid"
	endPing = `kill -INT "$(cat ` + pingPID + `)"; rm ` + pingPID
)

// pinging is pings under way from a pod, 50 a second.
type pinging struct {
	from, to, node string
	cmd            *exec.Cmd
	out            bytes.Buffer
}

func startPing(t *testing.T, from pod, to string) *pinging {
	t.Helper()
	p := &pinging{from: from.Name, to: to, node: from.Node}
	t.Cleanup(func() { // where nobody has stopped it: with docker's client it does not end
		if out, err := command("docker", "exec", from.Node, "bash", "-c", "[ ! -e "+pingPID+" ] || { "+endPing+"; }"); err != nil {
			t.Errorf("end the pings on %s: %v: %s", from.Node, err, out)
		}
	})
	script := `echo $$ >` + pingPID + `; exec nsenter -n -t "$(` + processes("default", from.Name, "container") + `)" ping -n -i 0.02 ` + to
	p.cmd = exec.CommandContext(t.Context(), "docker", "exec", from.Node, "bash", "-c", script)
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.out
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return p
}

var answered = regexp.MustCompile(`icmp_seq=(\d+) ttl=`)

// stop ends the pings, each of which must have been answered but the last, which may be on its way, and says how many were.
func (p *pinging) stop(t *testing.T) (n int) {
	t.Helper()
	onNode(t, p.node, "bash", "-c", endPing)
	p.cmd.Wait() //nolint:errcheck // it says in words how it went
	out := p.out.String()
	for _, m := range answered.FindAllStringSubmatch(out, -1) {
		if n++; m[1] != strconv.Itoa(n) {
			t.Errorf("from %s to %s: ping %d of a flow that is known was lost, %s was answered", p.from, p.to, n, m[1])
			return n
		}
	}
	if n == 0 || !strings.Contains(out, fmt.Sprintf("%d packets transmitted, %d received", n, n)) && !strings.Contains(out, fmt.Sprintf("%d packets transmitted, %d received", n+1, n)) {
		t.Errorf("from %s to %s: %d pings were answered: %s", p.from, p.to, n, out[max(0, len(out)-300):])
	}
	return n
}

// load is requests from a pod, each on a connection of its own, 200 a second, until it is stopped.
type load struct {
	from, to string
	stop     func() (sent int, failures []string)
}

func startLoad(t *testing.T, from pod, to string) *load {
	t.Helper()
	const rate, seconds = 200, 5
	over, ended := make(chan struct{}), make(chan struct{})
	var sent int
	var failures []string
	go func() {
		defer close(ended)
		for {
			select {
			case <-over:
				return
			case <-t.Context().Done():
				return
			default:
			}
			out, cmdErr := command("docker", inPod(from, "nettool", "probe", "http", "http://"+to+"/", "--rate", fmt.Sprint(rate), "--count", fmt.Sprint(rate*seconds))...)
			r, err := requestsIn(out)
			if err != nil {
				failures = append(failures, fmt.Sprintf("%v (%v)", err, cmdErr))
				return
			}
			if sent += r.Sent; r.OK != rate*seconds {
				failures = append(failures, fmt.Sprintf("%d of %d: %s", rate*seconds-r.OK, rate*seconds, r.Failures))
			}
		}
	}()
	return &load{from: from.Name, to: to, stop: func() (int, []string) {
		close(over)
		<-ended
		return sent, failures
	}}
}
