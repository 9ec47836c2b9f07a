package labs

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"wirelab.dev/wirelab/internal/cluster"
	"wirelab.dev/wirelab/internal/kube"
	"wirelab.dev/wirelab/verify/probe"
)

const (
	// dnsLabel is that of CoreDNS's pods, with its value; the name is older than CoreDNS.
	dnsLabel = dnsKey + "=" + dnsValue
	dnsKey   = "k8s-app"
	dnsValue = "kube-dns"
	// apiServerName is a name that every cluster's DNS must know.
	apiServerName = "kubernetes.default.svc.cluster.local."
	// dnsAgain bounds a question of who waits for an answer, and asks again: the server is on the same machine.
	dnsAgain = time.Second
)

// dnsAnswers wants every CoreDNS pod to answer a question asked from the first node that runs. A pod that Kubernetes
// calls ready may still be out of reach. within bounds one question.
func (l *Lab) dnsAnswers(within time.Duration) kube.Want {
	return kube.Want{Name: "DNS", Look: func(ctx context.Context) (kube.State, error) {
		running := l.running()
		if len(running) == 0 {
			return kube.State{Why: "no node runs to ask from"}, nil
		}
		from := running[0]
		pods, err := l.Kube.CoreV1().Pods(SystemNamespace).List(ctx, metav1.ListOptions{LabelSelector: dnsLabel})
		if err != nil {
			return kube.State{}, fmt.Errorf("list CoreDNS pods: %w", err)
		}
		asked := 0
		for i := range pods.Items {
			p := &pods.Items[i]
			if !kube.IsReady(p) {
				continue
			}
			asked++
			addr, err := netip.ParseAddr(p.Status.PodIP)
			if err != nil {
				return kube.State{}, fmt.Errorf("ask pod %s/%s, which has no address yet: %w", p.Namespace, p.Name, err)
			}
			why, err := askDNS(ctx, from, addr, within)
			if err != nil {
				return kube.State{}, fmt.Errorf("ask pod %s/%s from node %s: %w", p.Namespace, p.Name, from.Name, err)
			}
			if why != "" {
				return kube.State{
					Why:   fmt.Sprintf("does not answer node %s: %s", from.Name, why),
					Blame: kube.Object{Kind: "Pod", Namespace: p.Namespace, Name: p.Name},
				}, nil
			}
		}
		if asked == 0 {
			return kube.State{Why: "no CoreDNS pod is ready to be asked"}, nil
		}
		return kube.State{Ready: true}, nil
	}}
}

// askDNS asks a DNS server for the API server's name, from a node and over UDP. why is empty when it answers as it
// should; an error means that it could not be asked.
func askDNS(ctx context.Context, from cluster.Node, server netip.Addr, within time.Duration) (why string, err error) {
	reply, err := probeWithin(ctx, from, "", probe.Request{Timeout: probe.Duration(within), DNS: &probe.DNS{Server: netip.AddrPortFrom(server, 53), Name: apiServerName}})
	if err != nil {
		return "", err
	}
	return dnsAnswer(reply)
}

// dnsAnswer is what is wrong with an answer; empty when nothing is.
func dnsAnswer(r probe.Reply) (why string, err error) {
	switch {
	case r.Error != "":
		return "", errors.New(r.Error)
	case r.Failure != "":
		return r.Failure, nil
	case r.DNS == nil || len(r.DNS.Addresses) == 0:
		return "it has no address for " + apiServerName, nil
	}
	return "", nil
}
