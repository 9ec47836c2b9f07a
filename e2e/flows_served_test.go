//go:build e2e

package e2e

import (
	"bufio"
	"context"
	"regexp"
	"testing"
	"time"

	flowpb "github.com/cilium/cilium/api/v1/flow"
	observerpb "github.com/cilium/cilium/api/v1/observer"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// testFlowsServed asks lab flows --serve as clients of the flow API do: how it is, and who a pod has talked with.
func testFlowsServed(t *testing.T, name string) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	server, _, _ := labCommand(ctx, "flows", "--name", name, "--serve", "--listen", "127.0.0.1:0")
	server.Stderr = nil
	said, err := server.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		cancel()
		_ = server.Wait() // killed
	}()
	var at []string
	for lines := bufio.NewScanner(said); at == nil && lines.Scan(); {
		at = regexp.MustCompile(`^serving the flows of lab .* at (127\.0\.0\.1:\d+), without TLS$`).FindStringSubmatch(lines.Text())
	}
	if at == nil {
		t.Fatal("lab flows --serve does not say where it serves")
	}
	conn, err := grpc.NewClient(at[1], grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	client := observerpb.NewObserverClient(conn)
	status, err := client.ServerStatus(ctx, &observerpb.ServerStatusRequest{})
	if err != nil || status.GetNumConnectedNodes().GetValue() != 3 || status.GetNumFlows() == 0 {
		t.Errorf("the status is %v, %v", status, err)
	}
	peer := kubectl(t, name, "get", "pods", "-l", "app=demo", "--field-selector", "spec.nodeName="+name+"-worker", "-o", "jsonpath={.items[0].status.podIP}")
	eventually(t, 20*time.Second, "the flow is served", func() string {
		mustLab(t, "shell", "--name", name, "cni", "--", "ping", "-c", "1", "-W", "5", peer)
		stream, err := client.GetFlows(ctx, &observerpb.GetFlowsRequest{Number: 1, Whitelist: []*flowpb.FlowFilter{{
			SourcePod: []string{"default/cni"}, DestinationIp: []string{peer}, DestinationLabel: []string{"app=demo"}, Protocol: []string{"icmp"},
			Verdict: []flowpb.Verdict{flowpb.Verdict_FORWARDED},
		}}})
		if err != nil {
			return err.Error()
		}
		r, err := stream.Recv()
		if err != nil {
			return err.Error()
		}
		if f := r.GetFlow(); f.GetSource().GetPodName() != "cni" || f.GetDestination().GetNamespace() != "default" || f.GetSource().GetIdentity() < 256 {
			return f.String()
		}
		return ""
	})
}
