package goals

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"time"

	"wirelab.dev/wirelab/bench"
	"wirelab.dev/wirelab/bench/controlplane"
	"wirelab.dev/wirelab/bench/testbed"
	"wirelab.dev/wirelab/images"
	"wirelab.dev/wirelab/internal/image"
)

// What the control plane is measured with.
const (
	pods        = 100
	fewServices = 10
	services    = 10000
	changes     = 100
)

// ControlPlane are the goals of agent and CNI plugin that need no cluster. It takes the Services away from a
// cluster of the setup. Plugin and self are as in [controlplane.Plan].
func ControlPlane(ctx context.Context, b *testbed.Bed, l *testbed.Setup, plugin string, self []string) []bench.Row {
	p := controlplane.Plan{Plugin: plugin, Self: self, Pods: pods, Services: fewServices, Changes: changes}
	r, err := controlplane.Measure(ctx, b, p)
	rows := life(r, err)
	// The API server in the agent's memory takes a while to fill, so the agent's start is not measured so.
	p.Pods, p.Services = 1, services
	r, err = controlplane.Measure(ctx, b, p)
	changed := atMost("C9", fmt.Sprintf("EndpointSlice's change to the map, one of %d Services, ms: p99", services), 100, 20)
	rows = append(rows, judge(changed, p99(r.Change...), fmt.Sprintf("of %d", len(r.Change)), err))
	filled := atMost("C9", fmt.Sprintf("%d Services from none, to the maps, ms", services), 2000, 500)
	took, err := l.Clusters[fastest][testbed.Few].FillTime(ctx, services)
	rows = append(rows, judge(filled, p50(took), "without the agent", err))
	return append(rows, sizes(plugin)...)
}

// judge is the row of a goal; failed is why nothing was measured.
func judge(g bench.Goal, measured bench.Summary, note string, failed error) bench.Row {
	if failed != nil {
		return g.Fail(failed)
	}
	return g.Judge(measured, note)
}

// life are the goals about an agent's life; failed is why there are no results.
func life(r controlplane.Results, failed error) []bench.Row {
	return []bench.Row{
		judge(atMost("C1", "CNI ADD, plugin's start to end, ms: p50", 25, 8), p50(r.Add...), "", failed),
		judge(atMost("C1", "the same: p99", 80, 80), p99(r.Add...), fmt.Sprintf("of %d", len(r.Add)), failed),
		judge(atMost("C2", "CNI DEL, ms: p50", 60, 40), p50(r.Delete...), "", failed),
		judge(atMost("C2", "the same without an agent", 60, 40), p50(r.DeleteAlone...), "", failed),
		judge(atMost("C7", "agent's start to first ADD, ms: cold", 2000, 1000), p50(r.Cold), "", failed),
		judge(atMost("C7", "the same: with pins", 1000, 400), p50(r.Warm), "", failed),
	}
}

// all are times in milliseconds.
func all(times ...time.Duration) []float64 {
	values := make([]float64, len(times))
	for i, t := range times {
		values[i] = float64(t) / float64(time.Millisecond)
	}
	return values
}

func p50(times ...time.Duration) bench.Summary { return bench.Summarize(all(times...)...) }

func p99(times ...time.Duration) bench.Summary {
	return bench.Summarize(bench.Quantile(all(times...), 0.99))
}

// megabytes are of 10^6 bytes, as sizes of images are given.
func megabytes(bytes int64) bench.Summary { return bench.Summarize(float64(bytes) / 1e6) }

func sizes(plugin string) []bench.Row {
	whole := atMost("C10", "agent's image, MB", 60, 40)
	small := atMost("C10", "CNI plugin, MB", 5, 3)
	unpacked, err := agentSize()
	rows := []bench.Row{judge(whole, megabytes(unpacked), "not compressed", err)}
	info, err := os.Stat(plugin)
	if err != nil {
		return append(rows, small.Fail(err))
	}
	return append(rows, small.Judge(megabytes(info.Size()), ""))
}

func agentSize() (int64, error) {
	img, err := image.Agent(images.Payload, runtime.GOARCH)
	if err != nil {
		return 0, err
	}
	return img.Unpacked()
}
