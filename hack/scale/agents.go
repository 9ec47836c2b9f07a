package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// agent is where one serves its metrics.
type agent struct{ node, url string }

func findAgents(ctx context.Context, client kubernetes.Interface) ([]agent, error) {
	nodes, err := client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list nodes: %w", err)
	}
	var agents []agent
	for _, n := range nodes.Items {
		for _, a := range n.Status.Addresses {
			if a.Type == corev1.NodeInternalIP {
				agents = append(agents, agent{n.Name, "http://" + net.JoinHostPort(a.Address, "9962") + "/metrics"})
				break
			}
		}
	}
	return agents, nil
}

// reading is what an agent's metrics say.
type reading struct {
	rss float64 // bytes
	lag histogram
}

func readAll(ctx context.Context, agents []agent) ([]reading, error) {
	all := make([]reading, len(agents))
	for i, a := range agents {
		r, err := a.read(ctx)
		if err != nil {
			return nil, fmt.Errorf("read the metrics of the agent on %s: %w", a.node, err)
		}
		all[i] = r
	}
	return all, nil
}

func (a agent) read(ctx context.Context) (reading, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, a.url, nil)
	if err != nil {
		return reading{}, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return reading{}, err
	}
	defer resp.Body.Close()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(resp.Body)
	if err != nil {
		return reading{}, err
	}
	rss, lag := families["process_resident_memory_bytes"], families["wirelab_services_change_to_map_seconds"]
	if rss == nil || lag == nil {
		return reading{}, errors.New("they lack what is looked for: it takes a lab whose agents carry Services")
	}
	return reading{rss: rss.Metric[0].GetGauge().GetValue(), lag: histogramOf(lag.Metric[0].GetHistogram())}, nil
}

// settle waits until every agent has brought as many changes into its maps since before.
func settle(ctx context.Context, agents []agent, before []reading, changes int) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	for {
		now, err := readAll(ctx, agents)
		if err != nil {
			return err
		}
		behind := 0
		for i := range now {
			if now[i].lag.count-before[i].lag.count < float64(changes) {
				behind++
			}
		}
		if behind == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d agents have not taken all changes: %w", behind, ctx.Err())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// histogram is one of Prometheus's: how many were at most so long.
type histogram struct {
	count  float64
	bounds []float64 // seconds, rising
	atMost []float64 // cumulative
}

func histogramOf(h *dto.Histogram) histogram {
	out := histogram{count: float64(h.GetSampleCount())}
	for _, b := range h.GetBucket() {
		out.bounds = append(out.bounds, b.GetUpperBound())
		out.atMost = append(out.atMost, float64(b.GetCumulativeCount()))
	}
	return out
}

// since is what came after earlier.
func (h histogram) since(earlier histogram) histogram {
	d := histogram{count: h.count - earlier.count, bounds: h.bounds}
	for i, n := range h.atMost {
		d.atMost = append(d.atMost, n-earlier.atMost[i])
	}
	return d
}

// quantile is the upper bound of the bucket in which it lies, so never better than it was.
func (h histogram) quantile(q float64) float64 {
	for i, n := range h.atMost {
		if n >= q*h.count {
			return h.bounds[i]
		}
	}
	return h.bounds[len(h.bounds)-1]
}
