// Command scale fills a running lab with Services and says what that costs each agent: memory, and the
// time from a changed endpoint slice to the map. It removes what it made.
//
//	go run ./hack/scale -context kind-kubeproxy-replacement -services 5000
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

const (
	namespace = "wirelab-scale"
	endpoints = 2 // of each Service
	workers   = 16
	// changes are spread over as many seconds as there are tens of them.
	changes       = 300
	changesPerSec = 10
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "scale:", err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	flags := flag.NewFlagSet("scale", flag.ContinueOnError)
	flags.SetOutput(stderr)
	kubeContext := flags.String("context", "", "context of the kubeconfig (default: the current one)")
	services := flags.Int("services", 5000, "how many Services, with two endpoints each")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *services < changes {
		return fmt.Errorf("-services %d: want %d at least, as so many are changed", *services, changes)
	}
	client, err := connect(*kubeContext)
	if err != nil {
		return err
	}
	agents, err := findAgents(ctx, client)
	if err != nil {
		return err
	}
	defer func() {
		fmt.Fprintln(stderr, "removing the Services")
		clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Minute)
		defer cancel()
		err = errors.Join(err, remove(clean, client))
	}()
	empty, err := readAll(ctx, agents)
	if err != nil {
		return err
	}
	fmt.Fprintf(stderr, "making %d Services\n", *services)
	began := time.Now()
	if err := fill(ctx, client, *services); err != nil {
		return err
	}
	took := time.Since(began)
	if err := settle(ctx, agents, empty, *services); err != nil {
		return err
	}
	lag := time.Since(began) - took
	full, err := readAll(ctx, agents)
	if err != nil {
		return err
	}
	fmt.Fprintf(stderr, "changing %d endpoint slices, %d a second\n", changes, changesPerSec)
	if err := change(ctx, client, *services); err != nil {
		return err
	}
	if err := settle(ctx, agents, full, changes); err != nil {
		return err
	}
	after, err := readAll(ctx, agents)
	if err != nil {
		return err
	}
	fmt.Fprintf(stdout, "%d Services with %d endpoints each, made in %.1f s; the last was in all maps %.2f s later at most\n",
		*services, endpoints, took.Seconds(), lag.Seconds())
	fmt.Fprintf(stdout, "%-28s %10s %10s %12s %12s\n", "NODE", "RSS BEFORE", "RSS NOW", "CHANGE p50", "CHANGE p99")
	for i, a := range agents {
		d := after[i].lag.since(full[i].lag)
		fmt.Fprintf(stdout, "%-28s %6.1f MiB %6.1f MiB %9.1f ms %9.1f ms  (n=%.0f)\n", a.node,
			empty[i].rss/(1<<20), after[i].rss/(1<<20), 1000*d.quantile(0.5), 1000*d.quantile(0.99), d.count)
	}
	return nil
}

func connect(kubeContext string) (*kubernetes.Clientset, error) {
	cfg, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(clientcmd.NewDefaultClientConfigLoadingRules(),
		&clientcmd.ConfigOverrides{CurrentContext: kubeContext}).ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("find the lab's API server: %w", err)
	}
	cfg.QPS, cfg.Burst = 2000, 2000
	return kubernetes.NewForConfig(cfg)
}

// fill makes the Services and their slices, many at a time.
func fill(ctx context.Context, client kubernetes.Interface, n int) error {
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}
	if _, err := client.CoreV1().Namespaces().Create(ctx, ns, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("make namespace %s: %w", namespace, err)
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(workers)
	for i := range n {
		g.Go(func() error {
			svc := &corev1.Service{
				ObjectMeta: metav1.ObjectMeta{Name: name(i)},
				Spec:       corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: "http", Port: 80}}},
			}
			if _, err := client.CoreV1().Services(namespace).Create(ctx, svc, metav1.CreateOptions{}); err != nil {
				return fmt.Errorf("make Service %s: %w", svc.Name, err)
			}
			_, err := client.DiscoveryV1().EndpointSlices(namespace).Create(ctx, slice(i, 0), metav1.CreateOptions{})
			return err
		})
	}
	return g.Wait()
}

func name(i int) string { return fmt.Sprintf("s%05d", i) }

// slice is that of Service i; another version has other addresses. Nobody is behind them.
func slice(i, version int) *discoveryv1.EndpointSlice {
	port, portName, ready := int32(8080), "http", true
	s := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: name(i), Labels: map[string]string{discoveryv1.LabelServiceName: name(i)}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: &portName, Port: &port}},
	}
	for e := range endpoints {
		addr := fmt.Sprintf("10.%d.%d.%d", 128+2*(version%60)+e, i/250, 1+i%250)
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{Addresses: []string{addr}, Conditions: discoveryv1.EndpointConditions{Ready: &ready}})
	}
	return s
}

// change gives Services other endpoints, one after the other.
func change(ctx context.Context, client kubernetes.Interface, services int) error {
	tick := time.NewTicker(time.Second / changesPerSec)
	defer tick.Stop()
	for v, i := range rand.Perm(services)[:changes] { // each counts once
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		s := slice(i, v+1)
		if _, err := client.DiscoveryV1().EndpointSlices(namespace).Update(ctx, s, metav1.UpdateOptions{}); err != nil {
			return fmt.Errorf("change endpoint slice %s: %w", s.Name, err)
		}
	}
	return nil
}

// remove does what the namespace's end would do, one after the other, with as many hands as filled it.
func remove(ctx context.Context, client kubernetes.Interface) error {
	left, err := client.CoreV1().Services(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("list what is left in namespace %s: %w", namespace, err)
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(workers)
	for _, svc := range left.Items {
		g.Go(func() error {
			err := client.CoreV1().Services(namespace).Delete(gctx, svc.Name, metav1.DeleteOptions{})
			if apierrors.IsNotFound(err) {
				return nil
			}
			return err
		})
	}
	err = g.Wait()
	if end := client.CoreV1().Namespaces().Delete(ctx, namespace, metav1.DeleteOptions{}); !apierrors.IsNotFound(end) {
		err = errors.Join(err, end)
	}
	if err != nil {
		return fmt.Errorf("remove namespace %s: %w", namespace, err)
	}
	return nil
}
