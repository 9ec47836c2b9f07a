package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"

	"wirelab.dev/wirelab/internal/api"
)

// asPlugin makes this test binary the plugin.
const asPlugin = "WIRELAB_TEST_AS_PLUGIN"

func TestMain(m *testing.M) {
	if os.Getenv(asPlugin) == "1" {
		main()
		return
	}
	os.Exit(m.Run())
}

// exchange is a plugin call in a test.
type exchange struct {
	command string
	conf    string // the network configuration; socket is put in
	env     []string
}

// plugin runs the plugin and returns what it printed and whether it failed.
func (x exchange) plugin(t *testing.T, socket string) (stdout []byte, failed bool) {
	t.Helper()
	if x.conf == "" {
		x.conf = `{"cniVersion":"1.1.0","name":"wirelab","type":"wirelab-cni","socket":"SOCKET"}`
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append([]string{
		asPlugin + "=1", "CNI_COMMAND=" + x.command, "CNI_CONTAINERID=c1", "CNI_IFNAME=eth0", "CNI_PATH=/opt/cni/bin",
		"CNI_NETNS=/proc/self/ns/net", "CNI_NETNS_OVERRIDE=1",
		"CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=demo;K8S_POD_UID=u",
	}, x.env...)
	cmd.Stdin = strings.NewReader(strings.ReplaceAll(x.conf, "SOCKET", socket))
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if errOut.Len() > 0 && x.env == nil {
		t.Errorf("the plugin wrote on stderr: %s", errOut.String())
	}
	return out.Bytes(), err != nil
}

// agent answers calls on a socket until the test ends.
func agent(t *testing.T, socket string, answer func(api.CNIRequest, *os.File) api.CNIReply) {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { l.Close(); <-done })
	go func() {
		defer close(done)
		for {
			conn, err := l.AcceptUnix()
			if err != nil {
				return
			}
			req, netns, err := api.ReceiveCNI(conn, time.Now().Add(5*time.Second))
			if err != nil {
				t.Error(err)
			} else if err := api.ReplyCNI(conn, answer(req, netns)); err != nil {
				t.Error(err)
			}
			if netns != nil {
				netns.Close()
			}
			conn.Close()
		}
	}()
}

func socketPath(t *testing.T) string { return filepath.Join(t.TempDir(), "cni.sock") }

var endpoint = api.CNIEndpoint{
	Endpoint: api.Endpoint{
		Addr: netip.MustParseAddr("10.244.1.5"), MTU: 1500,
		HostIf: "lxc01234567", HostMAC: api.MAC{0x02, 5: 0x01}, PodMAC: api.MAC{0x02, 5: 0x02},
	},
	Router: netip.MustParseAddr("10.244.1.1"),
}

func TestAddReportsTheEndpoint(t *testing.T) {
	socket := socketPath(t)
	agent(t, socket, func(req api.CNIRequest, netns *os.File) api.CNIReply {
		if netns == nil {
			t.Error("no network namespace came along")
		}
		if want := (api.CNIRequest{Command: "ADD", ContainerID: "c1", IfName: "eth0", Namespace: "default", Pod: "demo", PodUID: "u"}); !reflect.DeepEqual(req, want) {
			t.Errorf("request %+v, want %+v", req, want)
		}
		return api.CNIReply{Endpoint: &endpoint}
	})
	out, failed := exchange{command: "ADD"}.plugin(t, socket)
	if failed {
		t.Fatalf("ADD failed: %s", out)
	}
	var got, want any
	decode(t, out, &got)
	decode(t, []byte(`{
		"cniVersion": "1.1.0",
		"interfaces": [
			{"name": "lxc01234567", "mac": "02:00:00:00:00:01", "mtu": 1500},
			{"name": "eth0", "mac": "02:00:00:00:00:02", "mtu": 1500, "sandbox": "/proc/self/ns/net"}
		],
		"ips": [{"interface": 1, "address": "10.244.1.5/32", "gateway": "10.244.1.1"}],
		"routes": [{"dst": "10.244.1.1/32", "scope": 253}, {"dst": "0.0.0.0/0", "gw": "10.244.1.1"}]
	}`), &want)
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

func TestAddSpeaksTheVersionItIsAskedIn(t *testing.T) {
	socket := socketPath(t)
	agent(t, socket, func(api.CNIRequest, *os.File) api.CNIReply { return api.CNIReply{Endpoint: &endpoint} })
	for _, version := range []string{"0.3.1", "0.4.0", "1.0.0", "1.1.0"} {
		conf := fmt.Sprintf(`{"cniVersion":%q,"name":"wirelab","type":"wirelab-cni","socket":"SOCKET"}`, version)
		out, failed := exchange{command: "ADD", conf: conf}.plugin(t, socket)
		var got struct{ CNIVersion string }
		decode(t, out, &got)
		if failed || got.CNIVersion != version {
			t.Errorf("asked in %s: %s", version, out)
		}
	}
	out, failed := exchange{command: "ADD", conf: `{"cniVersion":"9.0.0","name":"wirelab","type":"wirelab-cni"}`}.plugin(t, socket)
	if !failed || code(t, out) != types.ErrIncompatibleCNIVersion {
		t.Errorf("asked in 9.0.0: %s", out)
	}
}

func TestVersionsAreListed(t *testing.T) {
	out, failed := exchange{command: "VERSION"}.plugin(t, "")
	var got struct{ SupportedVersions []string }
	decode(t, out, &got)
	if failed || !strings.Contains(strings.Join(got.SupportedVersions, " "), "0.4.0 1.0.0 1.1.0") {
		t.Errorf("VERSION: %s", out)
	}
}

// TestErrorsOfTheAgentArePassedOn covers every command.
func TestErrorsOfTheAgentArePassedOn(t *testing.T) {
	socket := socketPath(t)
	agent(t, socket, func(api.CNIRequest, *os.File) api.CNIReply {
		return api.CNIReply{Error: &api.CNIError{Code: 107, Msg: "no", Details: "why"}}
	})
	for _, command := range []string{"ADD", "DEL", "CHECK", "GC", "STATUS"} {
		out, failed := exchange{command: command, conf: checkConf("eth0")}.plugin(t, socket)
		if command == "ADD" {
			out, failed = exchange{command: command}.plugin(t, socket)
		}
		var got types.Error
		decode(t, out, &got)
		if !failed || got.Code != 107 || got.Msg != "no" || got.Details != "why" {
			t.Errorf("%s: failed %v, %s", command, failed, out)
		}
	}
}

func TestWithoutAgent(t *testing.T) {
	for _, tc := range []struct {
		command string
		code    uint // 0: succeeds
		soon    bool
	}{
		{"ADD", types.ErrTryAgainLater, false},
		{"CHECK", types.ErrTryAgainLater, false},
		{"GC", types.ErrTryAgainLater, false},
		{"STATUS", types.ErrPluginNotAvailable, false},
		{"DEL", 0, true}, // and there is no device of that name
	} {
		t.Run(tc.command, func(t *testing.T) {
			t.Parallel()
			conf := ""
			if tc.command == "CHECK" {
				conf = checkConf("eth0")
			}
			start := time.Now()
			out, failed := exchange{command: tc.command, conf: conf}.plugin(t, socketPath(t))
			if failed != (tc.code != 0) || (failed && code(t, out) != tc.code) {
				t.Errorf("failed %v: %s", failed, out)
			}
			if tc.soon && time.Since(start) > addPatience {
				t.Errorf("took %v: it waited for an agent", time.Since(start))
			}
		})
	}
}

// TestAddWaitsForARestart starts the agent after the plugin.
func TestAddWaitsForARestart(t *testing.T) {
	socket := socketPath(t)
	type result struct {
		out    []byte
		failed bool
	}
	done := make(chan result)
	go func() {
		out, failed := exchange{command: "ADD"}.plugin(t, socket)
		done <- result{out, failed}
	}()
	select {
	case r := <-done:
		t.Fatalf("ADD did not wait: %s", r.out)
	case <-time.After(addPatience / 4):
	}
	agent(t, socket, func(api.CNIRequest, *os.File) api.CNIReply { return api.CNIReply{Endpoint: &endpoint} })
	if r := <-done; r.failed {
		t.Errorf("ADD: %s", r.out)
	}
}

func TestCheckHandsTheAddressesOn(t *testing.T) {
	socket := socketPath(t)
	var got []netip.Addr
	agent(t, socket, func(req api.CNIRequest, netns *os.File) api.CNIReply {
		got = req.Addrs
		if netns == nil {
			t.Error("no network namespace came along")
		}
		return api.CNIReply{}
	})
	if out, failed := (exchange{command: "CHECK", conf: checkConf("eth0")}).plugin(t, socket); failed {
		t.Fatalf("CHECK: %s", out)
	}
	if want := []netip.Addr{endpoint.Addr}; !reflect.DeepEqual(got, want) {
		t.Errorf("the agent was asked about %v, want %v", got, want)
	}
	for name, conf := range map[string]string{"no prevResult": "", "another interface": checkConf("eth7")} {
		if out, failed := (exchange{command: "CHECK", conf: conf}).plugin(t, socket); !failed || code(t, out) != types.ErrInvalidNetworkConfig {
			t.Errorf("%s: %s", name, out)
		}
	}
}

func TestAddMustBeFirst(t *testing.T) {
	out, failed := exchange{command: "ADD", conf: checkConf("eth0")}.plugin(t, socketPath(t))
	if !failed || code(t, out) != types.ErrInvalidNetworkConfig {
		t.Errorf("ADD behind another plugin: %s", out)
	}
}

func TestGCHandsTheAttachmentsOn(t *testing.T) {
	socket := socketPath(t)
	var got []api.CNIAttachment
	agent(t, socket, func(req api.CNIRequest, _ *os.File) api.CNIReply { got = req.Valid; return api.CNIReply{} })
	conf := `{"cniVersion":"1.1.0","name":"wirelab","type":"wirelab-cni","socket":"SOCKET",
		"cni.dev/valid-attachments":[{"containerID":"a","ifname":"eth0"},{"containerID":"b","ifname":"eth1"}]}`
	if out, failed := (exchange{command: "GC", conf: conf}).plugin(t, socket); failed {
		t.Fatalf("GC: %s", out)
	}
	if want := []api.CNIAttachment{{ContainerID: "a", IfName: "eth0"}, {ContainerID: "b", IfName: "eth1"}}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestNamespaceThatIsNone(t *testing.T) {
	out, failed := exchange{command: "ADD", env: []string{"CNI_NETNS=/nonexistent"}}.plugin(t, socketPath(t))
	if !failed || code(t, out) != types.ErrInvalidNetNS {
		t.Errorf("ADD: %s", out)
	}
}

// checkConf is a configuration with ifName's prevResult.
func checkConf(ifName string) string {
	result := current.Result{
		CNIVersion: "1.1.0",
		Interfaces: []*current.Interface{{Name: "lxc0"}, {Name: ifName, Sandbox: "/ns"}},
		IPs:        []*current.IPConfig{{Interface: current.Int(1), Address: ipNet(netip.PrefixFrom(endpoint.Addr, 32))}},
	}
	prev, err := json.Marshal(result)
	if err != nil {
		panic(err)
	}
	return `{"cniVersion":"1.1.0","name":"wirelab","type":"wirelab-cni","socket":"SOCKET","prevResult":` + string(prev) + `}`
}

func code(t *testing.T, out []byte) uint {
	t.Helper()
	var e types.Error
	decode(t, out, &e)
	return e.Code
}

func decode(t *testing.T, data []byte, into any) {
	t.Helper()
	if err := json.Unmarshal(data, into); err != nil {
		t.Fatalf("decode %q: %v", data, err)
	}
}
