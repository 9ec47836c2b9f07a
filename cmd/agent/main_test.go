package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"wirelab.dev/wirelab/internal/api"
	"wirelab.dev/wirelab/internal/netnstest"
	"wirelab.dev/wirelab/internal/settings"
)

// serve answers paths of the agent's API with values, as JSON lines, and
// returns the socket.
func serve(t *testing.T, answers map[string][]any) string {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "agent.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	for path, values := range answers {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) {
			for _, v := range values {
				if e, ok := v.(api.HTTPError); ok {
					w.WriteHeader(http.StatusServiceUnavailable)
					v = e
				}
				if err := json.NewEncoder(w).Encode(v); err != nil {
					t.Error(err)
				}
			}
		})
	}
	srv := &http.Server{Handler: mux}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	t.Cleanup(func() { srv.Close(); <-done })
	return socket
}

func runCmd(t *testing.T, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	var out, errOut bytes.Buffer
	err := run(ctx, args, &out, &errOut)
	return out.String(), err
}

func readyStatus() api.Status {
	now := time.Now()
	return api.Status{
		Version: "v1", Node: "worker", Cluster: "lab", Started: now.Add(-90 * time.Second), Ready: true,
		Kubernetes: api.Kubernetes{Server: "https://cp:6443", Version: "v1.37.0", Reachable: true, Nodes: 3},
		Datapath: &api.Datapath{
			Mode: "kubeproxy", AttachMode: "tcx", NodeIP: netip.MustParseAddr("192.0.2.1"),
			PodCIDR: netip.MustParsePrefix("10.0.1.0/24"), Router: netip.MustParseAddr("10.0.1.1"), MTU: 1500,
			Routing:      api.Routing{Network: "native", Host: "Legacy", Reason: "needs BPF masquerade", Routes: []api.NodeRoute{{PodCIDR: netip.MustParsePrefix("10.0.2.0/24"), Via: netip.MustParseAddr("192.0.2.2"), Device: "eth0"}}},
			Masquerading: api.Masquerading{Enabled: true, Kind: "iptables", Backend: "nf_tables", NativeCIDR: netip.MustParsePrefix("10.0.0.0/8")},
			Maps:         []api.Map{{Name: "lab_endpoints", ID: 7, Entries: 2, MaxEntries: 64, MemoryBytes: 4096}, {Name: "lab_events", ID: 8, Entries: -1}},
			Sysctls:      []api.Sysctl{{Name: "net.ipv4.ip_forward", Value: "1", Found: "0"}, {Name: "x", Value: "1"}},
		},
		IPAM:      &api.IPAM{Mode: "kubernetes", CIDR: netip.MustParsePrefix("10.0.1.0/24"), Used: 2, Capacity: 253},
		Endpoints: 2,
		CNI:       api.CNI{Serving: true, Written: true, Config: "/etc/cni/net.d/05-wirelab.conflist"},
		Reconcilers: []api.Reconciler{
			{Name: "devices", Healthy: true, LastSuccess: now},
			{Name: "routes", Healthy: true, LastSuccess: now, LastError: "no such device", LastErrorAt: now.Add(-time.Minute)},
		},
	}
}

// lines are the lines of a status without the padding between key and value.
func lines(text string) map[string]string {
	out := map[string]string{}
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "  ")
		out[strings.TrimSpace(key)] = strings.TrimSpace(value)
	}
	return out
}

func TestStatusText(t *testing.T) {
	out, err := runCmd(t, "status", "--socket", serve(t, map[string][]any{api.StatusPath: {readyStatus()}}))
	if err != nil {
		t.Fatal(err)
	}
	got := lines(out)
	for key, want := range map[string]string{
		"Node:":                 "worker, cluster lab",
		"Ready:":                "yes",
		"Kubernetes:":           "Ok, v1.37.0 at https://cp:6443, 3 nodes",
		"Datapath:":             "kubeproxy, attached by tcx, MTU 1500",
		"Routing:":              "native, 1 route to other nodes",
		"Host Routing:":         "Legacy (needs BPF masquerade)",
		"Masquerading:":         "IPTables (nf_tables) 10.0.0.0/8",
		"KubeProxyReplacement:": "False",
		"IPAM:":                 "2/253 allocated from 10.0.1.0/24 (kubernetes)",
		"Reconcilers:":          "2/2 healthy",
	} {
		if got[key] != want {
			t.Errorf("%s %q, want %q", key, got[key], want)
		}
	}
	if strings.Contains(out, "lab_endpoints") {
		t.Error("maps are listed without --verbose")
	}
}

func TestStatusVerbose(t *testing.T) {
	out, err := runCmd(t, "status", "-v", "--socket", serve(t, map[string][]any{api.StatusPath: {readyStatus()}}))
	if err != nil {
		t.Fatal(err)
	}
	got := lines(out)
	for key, want := range map[string]string{
		"devices":             "ok, 0s ago",
		"routes":              "ok, 0s ago (failed 1m ago: no such device)",
		"lab_endpoints":       "id 7, 2 of 64 entries, 4 KiB",
		"lab_events":          "id 8, - of 0 entries, 0 KiB",
		"net.ipv4.ip_forward": "1 (was 0)",
		"x":                   "1",
		"10.0.2.0/24":         "via 192.0.2.2 dev eth0",
	} {
		if got[key+":"] != want {
			t.Errorf("%s %q, want %q", key, got[key+":"], want)
		}
	}
}

func TestStatusOfANodeThatDoesNotWork(t *testing.T) {
	s := api.Status{Node: "worker", NotReady: []string{"routes fails: no such device"}, Kubernetes: api.Kubernetes{Server: "https://cp:6443", Error: "refused"},
		Reconcilers: []api.Reconciler{{Name: "routes", ConsecutiveFailures: 3, LastError: "no such device", LastErrorAt: time.Now()}, {Name: "cni-config"}}}
	socket := serve(t, map[string][]any{api.StatusPath: {s}})
	out, err := runCmd(t, "status", "--socket", socket)
	if err == nil || !strings.Contains(err.Error(), "routes fails: no such device") {
		t.Errorf("status of a node that does not work ends with %v", err)
	}
	got := lines(out)
	for key, want := range map[string]string{
		"Ready:":       "no: routes fails: no such device",
		"Kubernetes:":  "unreachable at https://cp:6443: refused",
		"Reconcilers:": "0/2 healthy; routes: no such device; cni-config: has not run yet",
	} {
		if got[key] != want {
			t.Errorf("%s %q, want %q", key, got[key], want)
		}
	}
	out, _ = runCmd(t, "status", "-v", "--socket", socket)
	got = lines(out)
	for key, want := range map[string]string{
		"routes:":     "failed 3 times in a row, last 0s ago: no such device",
		"cni-config:": "has not run yet",
	} {
		if got[key] != want {
			t.Errorf("verbose: %s %q, want %q", key, got[key], want)
		}
	}
	out, err = runCmd(t, "status", "-o", "json", "--socket", socket)
	var decoded api.Status
	if json.Unmarshal([]byte(out), &decoded) != nil || decoded.Node != "worker" || err == nil {
		t.Errorf("as JSON: %v, %s", err, out)
	}
}

// identified is two pods, with two identities, and a reserved one.
func identified() map[string][]any {
	demo := api.LabeledEndpoint{
		Endpoint: api.Endpoint{ID: 2, Namespace: "default", Pod: "demo", Addr: netip.MustParseAddr("10.0.1.2"), HostIf: "lxc1", HostIndex: 9, MTU: 1500, Identity: 12345, Attached: true},
		Labels:   map[string]string{"app": "demo", "tier": "front"},
	}
	other := api.LabeledEndpoint{Endpoint: api.Endpoint{ID: 3, Namespace: "default", Pod: "other", Addr: netip.MustParseAddr("10.0.1.3"), HostIf: "lxc2", Identity: 5}}
	return map[string][]any{
		api.EndpointsPath: {[]api.LabeledEndpoint{demo, other}},
		api.IdentitiesPath: {[]api.Identity{
			{ID: 2, Name: "world"},
			{ID: 300, Namespace: "default", ServiceAccount: "default", Labels: map[string]string{"app": "old"}, Retired: true},
			{ID: 12345, Namespace: "default", ServiceAccount: "default", Labels: demo.Labels, Pods: []string{"default/demo"}},
		}},
	}
}

func TestIdentities(t *testing.T) {
	socket := serve(t, identified())
	for _, tt := range []struct {
		command string
		want    []string // rows, with one space between columns
	}{
		{"endpoint list", []string{"ADDRESS ENDPOINT IDENTITY POD AND LABELS", "10.0.1.2 2 12345 default/demo app=demo tier=front", "10.0.1.3 3 5 default/other (without program)"}},
		{"endpoint list --identity 5", []string{"ADDRESS ENDPOINT IDENTITY POD AND LABELS", "10.0.1.3 3 5 default/other (without program)"}},
		{"endpoint get default/demo", []string{"Pod: default/demo", "Address: 10.0.1.2", "Endpoint: 2", "Identity: 12345", "Labels: app=demo tier=front",
			"Interface: lxc1, index 9, MTU 1500", "MACs: 00:00:00:00:00:00 in the pod, 00:00:00:00:00:00 on the node", "Program: attached"}},
		{"identity list", []string{"ID PODS NAMESPACE SERVICE ACCOUNT LABELS", "2 0 - - reserved: world", "300 0 default default app=old (retired)", "12345 1 default default app=demo tier=front"}},
		{"identity get 12345", []string{"Identity: 12345", "Namespace: default", "Service Account: default", "Labels: app=demo tier=front", "Retired: no", "Pods: default/demo"}},
		{"identity get world", []string{"Identity: 2", "Reserved: world", "Pods: -"}},
	} {
		out, err := runCmd(t, append(strings.Fields(tt.command), "--socket", socket)...)
		var got []string
		for _, line := range strings.Split(strings.TrimSpace(out), "\n") {
			got = append(got, strings.Join(strings.Fields(line), " "))
		}
		if err != nil || !slices.Equal(got, tt.want) {
			t.Errorf("%s: %v, got\n%s\nwant\n%s", tt.command, err, strings.Join(got, "\n"), strings.Join(tt.want, "\n"))
		}
	}
	whole, err := runCmd(t, "endpoint", "get", "default/demo", "--socket", socket)
	for _, name := range []string{"demo", "10.0.1.2", "2"} {
		if got, gotErr := runCmd(t, "endpoint", "get", name, "--socket", socket); err != nil || gotErr != nil || got != whole {
			t.Errorf("endpoint get %s: %v, %v, got\n%s\nwant\n%s", name, err, gotErr, got, whole)
		}
	}
	out, err := runCmd(t, "endpoint", "get", "10.0.1.2", "-o", "json", "--socket", socket)
	var found []api.LabeledEndpoint
	if jsonErr := json.Unmarshal([]byte(out), &found); err != nil || jsonErr != nil || len(found) != 1 || found[0].Labels["tier"] != "front" {
		t.Errorf("as JSON: %v, %v, %s", err, jsonErr, out)
	}
	for command, want := range map[string]string{
		"endpoint get default/nobody": "there is no endpoint default/nobody: endpoint list has what there is",
		"identity get 7":              "there is no identity 7",
		"identity get":                "accepts 1 arg",
		"endpoint list --identity x":  "want its number",
	} {
		if _, err := runCmd(t, append(strings.Fields(command), "--socket", socket)...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", command, err, want)
		}
	}
	for command, want := range map[string]string{"endpoint get": "default/demo", "identity get": "world", "endpoint list --identity": "12345", "bpf ipcache list --identity": "12345"} {
		args := slices.Insert(append([]string{"__complete"}, append(strings.Fields(command), "")...), len(strings.Fields(command)), "--socket", socket)
		if i := slices.Index(args, "--identity"); i >= 0 { // the flag that is completed comes last
			args = append(slices.Delete(args, i, i+1), "")
			args[len(args)-2] = "--identity"
		}
		var out strings.Builder
		if err := run(t.Context(), args, &out, &out); err != nil || !strings.Contains(out.String(), want) {
			t.Errorf("%s completes with %v\n%s, want %s", command, err, out.String(), want)
		}
	}
}

func TestMonitor(t *testing.T) {
	at := time.Date(2030, 1, 2, 3, 4, 5, 6000, time.Local)
	of := func(e api.Event) api.MonitorLine { return api.MonitorLine{Event: &e} }
	mark := api.MonitorLine{UpTo: at}
	socket := serve(t, map[string][]any{
		api.MonitorPath: {
			mark,
			of(api.Event{Type: api.EventLost, Time: at, CPU: 1, Missed: 3}),
			of(api.Event{Type: api.EventTrace, Packet: 1, Time: at, Reason: "delivered", Point: api.FromPod, Iface: "lxc1", SrcMAC: api.MAC{2, 5: 1}, DstMAC: api.MAC{2, 5: 2}, EtherType: 0x0800, Proto: 6,
				Src: netip.MustParseAddrPort("10.0.1.2:40000"), Dst: netip.MustParseAddrPort("10.0.1.3:80"), TTL: 64, TCPFlags: 2, Length: 66, SrcEndpoint: 2, DstEndpoint: 3}),
			of(api.Event{Type: api.EventDrop, Packet: 2, Time: at, Reason: "source-address", Point: api.FromPod, Iface: "lxc1", SrcMAC: api.MAC{2, 5: 1}, DstMAC: api.MAC{2, 5: 2}, EtherType: 0x0800, Proto: 1, ICMPType: 8,
				Src: netip.MustParseAddrPort("10.0.1.9:0"), Dst: netip.MustParseAddrPort("10.0.1.3:0"), TTL: 64, Length: 98}),
			mark,
		},
		api.EndpointsPath: {[]api.LabeledEndpoint{{Endpoint: api.Endpoint{Namespace: "default", Pod: "demo", Addr: netip.MustParseAddr("10.0.1.2")}}}},
	})
	lost, sent, dropped := "03:04:05.000006 lost         lost 3 events (CPU 1)\n",
		"03:04:05.000006 from-pod     TCP 10.0.1.2:40000 > 10.0.1.3:80 SYN, 66 bytes: delivered\n",
		"03:04:05.000006 from-pod     ICMP 10.0.1.9 > 10.0.1.3 echo, 98 bytes: DROP source-address\n"
	for _, tt := range []struct{ args, want string }{
		{"", lost + sent + dropped},
		{"--type drop", lost + dropped},
		{"--from default/demo", lost + sent},
		{"--related-to 10.0.1.3", lost + sent + dropped},
		{"--type trace -v", lost + "03:04:05.000006 from-pod     TCP 10.0.1.2:40000 > 10.0.1.3:80 SYN, 66 bytes, endpoint 2->3, ttl 64, lxc1, 02:00:00:00:00:01 > 02:00:00:00:00:02: delivered\n"},
	} {
		out, err := runCmd(t, append([]string{"monitor", "--socket", socket}, strings.Fields(tt.args)...)...)
		if out != tt.want {
			t.Errorf("monitor %s:\n%swant\n%s", tt.args, out, tt.want)
		}
		if err == nil || !strings.Contains(err.Error(), "the agent ended the stream") {
			t.Errorf("the end of the stream: %v", err)
		}
	}
	out, _ := runCmd(t, "monitor", "--type", "drop", "-o", "json", "--socket", socket)
	var gap, e api.Event
	dec := json.NewDecoder(strings.NewReader(out))
	if dec.Decode(&gap) != nil || dec.Decode(&e) != nil || gap.Missed != 3 || gap.CPU != 1 || e.Reason != "source-address" || dec.More() {
		t.Errorf("drops as JSON: %s", out)
	}
	for args, want := range map[string]string{
		"--from default/none": `pick events by "default/none": there is no such pod`,
		"--to a/b/c":          "want a pod, as demo or kube-system/coredns",
		"--type drops":        "there are trace, drop, step",
	} {
		out, err := runCmd(t, append([]string{"monitor", "--socket", socket}, strings.Fields(args)...)...)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") || out != "" {
			t.Errorf("monitor %s: %v, want %q\n%s", args, err, want, out)
		}
	}
}

// TestMonitorHelpsWithWhatIsSeen holds its help to every setting that there is.
func TestMonitorHelpsWithWhatIsSeen(t *testing.T) {
	out, err := runCmd(t, "monitor", "--help")
	key, _, ok := settings.Keys().Find("bpf.monitorAggregation")
	if !ok || len(key.Allowed) == 0 {
		t.Fatalf("no such setting, or it allows anything: %+v", key)
	}
	for _, word := range key.Allowed {
		if err != nil || !strings.Contains(out, "\n  "+word+" ") {
			t.Errorf("%v, want %q in\n%s", err, word, out)
		}
	}
}

// TestStreamForLab: marks are between the events, and it ends with its input.
func TestStreamForLab(t *testing.T) {
	at := time.Date(2030, 1, 2, 3, 4, 5, 6000, time.UTC)
	socket := serve(t, map[string][]any{api.MonitorPath: {
		api.MonitorLine{UpTo: at}, api.MonitorLine{Event: &api.Event{Type: api.EventDrop, Time: at}}, api.MonitorLine{UpTo: at.Add(1)},
	}})
	in, end := io.Pipe()
	root := newMonitorCmd()
	root.SilenceUsage, root.SilenceErrors = true, true
	var out bytes.Buffer
	root.SetArgs([]string{"--stream", "--socket", socket})
	root.SetIn(in)
	root.SetOut(&out)
	if err := root.ExecuteContext(t.Context()); err == nil || !strings.Contains(err.Error(), "ended the stream") {
		t.Errorf("the end of the stream: %v", err)
	}
	var lines []api.MonitorLine
	for dec := json.NewDecoder(&out); dec.More(); {
		var line api.MonitorLine
		if err := dec.Decode(&line); err != nil {
			t.Fatal(err)
		}
		lines = append(lines, line)
	}
	if len(lines) != 3 || !lines[0].UpTo.Equal(at) || lines[1].Event == nil || !lines[2].UpTo.Equal(at.Add(1)) {
		t.Errorf("lines: %+v", lines)
	}
	end.Close()

	socket = filepath.Join(t.TempDir(), "agent.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() // nobody answers there
	in, end = io.Pipe()
	root.SetIn(in)
	root.SetArgs([]string{"--stream", "--socket", socket})
	ended := make(chan error)
	go func() { ended <- root.ExecuteContext(t.Context()) }()
	select {
	case err := <-ended:
		t.Fatalf("it ends at once: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	end.Close()
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Error("it goes on without an input")
	}
}

func TestAskingFails(t *testing.T) {
	refusing := serve(t, map[string][]any{api.EndpointsPath: {api.HTTPError{Message: "the datapath is not open yet"}}})
	for _, tc := range []struct {
		args []string
		want string
	}{
		{[]string{"endpoint", "list", "--socket", refusing}, "the datapath is not open yet"},
		{[]string{"status", "--socket", filepath.Join(t.TempDir(), "none")}, "is it running?"},
		{[]string{"status", "-o", "yaml"}, "use text or json"},
		{[]string{"status", "extra"}, "unknown command"},
		{[]string{"runn"}, "unknown command"},
		{[]string{"run", "--config", filepath.Join(t.TempDir(), "none.yaml")}, "none.yaml"},
		{[]string{"mount-bpffs", filepath.Join(t.TempDir(), "none")}, "look at"},
	} {
		if _, err := runCmd(t, tc.args...); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%v: %v, want an error with %q", tc.args, err, tc.want)
		}
	}
}

func TestPathsBelowARoot(t *testing.T) {
	p := pathsBelow("/host")
	if p.HostRoot != "/host" || p.BPFFS != "/host/sys/fs/bpf" || p.RunDir != "/host/run/wirelab" || p.Proc != "/proc/sys" {
		t.Errorf("below /host: %+v", p)
	}
	if p := pathsBelow(""); p.HostRoot != "" || p.BPFFS != "/sys/fs/bpf" || p.RunDir != api.RunDir {
		t.Errorf("on the node itself: %+v", p)
	}
}

func TestMountBPFFS(t *testing.T) {
	if os.Geteuid() != 0 {
		if os.Getenv("WIRELAB_TEST_STRICT") == "1" {
			t.Fatal("this test needs root")
		}
		t.Skip("this test needs root: it mounts a file system")
	}
	dir := t.TempDir()
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Errorf("unmount once: %v", err)
		}
	})
	for range 2 { // the second time there is one
		if _, err := runCmd(t, "mount-bpffs", dir); err != nil {
			t.Fatal(err)
		}
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil || fs.Type != unix.BPF_FS_MAGIC {
		t.Errorf("%s is of type %x, %v", dir, fs.Type, err)
	}
}

// TestProbe: what is wrong is in the error and in the file, where a kubelet takes it from.
func TestProbe(t *testing.T) {
	netnstest.RequireRoot(t)
	t.Setenv("WIRELAB_TEST_STRICT", "") // which is no setting
	t.Setenv("WIRELAB_NODENAME", "n1")
	said := filepath.Join(t.TempDir(), "said")
	if _, err := runCmd(t, "probe", "--to", said, `{"ipv4NativeRoutingCIDR": "10.0.0.0/8", "kubeProxyReplacement": true}`); err != nil {
		t.Errorf("on a kernel that runs the programs: %v", err)
	}
	if _, err := os.Stat(said); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("something is said where nothing is wrong: %v", err)
	}
	_, err := runCmd(t, "probe", "--to", said, `{"kubeProxyReplacement": "perhaps"}`)
	if err == nil || !strings.Contains(err.Error(), "kubeProxyReplacement: ") {
		t.Fatalf("with a setting that is none: %v", err)
	}
	if text, readErr := os.ReadFile(said); readErr != nil || string(text) != err.Error() {
		t.Errorf("the file has %q, %v; want %q", text, readErr, err)
	}
	many := ""
	for i := range 200 {
		many += fmt.Sprintf("none%d: 1\n", i)
	}
	_, err = runCmd(t, "probe", "--to", said, many)
	if text, readErr := os.ReadFile(said); readErr != nil || err == nil || len(text) != 4096 || !strings.HasPrefix(err.Error(), string(text)) {
		t.Errorf("the file has %d bytes, %v: %.60q; want the first 4096 of %.60v", len(text), readErr, text, err)
	}
}
