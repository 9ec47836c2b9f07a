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
	if err != nil {
		rows = append(rows, changed.Fail(err))
	} else {
		rows = append(rows, changed.Judge(one(bench.Quantile(all(r.Change), 0.99)), fmt.Sprintf("of %d", len(r.Change))))
	}
	filled := atMost("C9", fmt.Sprintf("%d Services from none, to the maps, ms", services), 2000, 500)
	took, err := l.Clusters[fastest][testbed.Few].FillTime(ctx, services)
	if err != nil {
		rows = append(rows, filled.Fail(err))
	} else {
		rows = append(rows, filled.Judge(one(milliseconds(took)), "without the agent"))
	}
	return append(rows, sizes(plugin)...)
}

// life are the goals about an agent's life; failed is why there are no results.
func life(r controlplane.Results, failed error) []bench.Row {
	add := all(r.Add)
	var rows []bench.Row
	for _, row := range []struct {
		goal     bench.Goal
		measured bench.Summary
		note     string
	}{
		{atMost("C1", "CNI ADD, plugin's start to end, ms: p50", 25, 8), bench.Summarize(add), ""},
		{atMost("C1", "the same: p99", 80, 80), one(bench.Quantile(add, 0.99)), fmt.Sprintf("of %d", len(add))},
		{atMost("C2", "CNI DEL, ms: p50", 60, 40), bench.Summarize(all(r.Delete)), ""},
		{atMost("C2", "the same without an agent", 60, 40), bench.Summarize(all(r.DeleteAlone)), ""},
		{atMost("C7", "agent's start to first ADD, ms: cold", 2000, 1000), one(milliseconds(r.Cold)), ""},
		{atMost("C7", "the same: with pins", 1000, 400), one(milliseconds(r.Warm)), ""},
	} {
		if failed != nil {
			rows = append(rows, row.goal.Fail(failed))
			continue
		}
		rows = append(rows, row.goal.Judge(row.measured, row.note))
	}
	return rows
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func all(times controlplane.Times) []float64 {
	values := make([]float64, len(times))
	for i, t := range times {
		values[i] = milliseconds(t)
	}
	return values
}

// megabyte is 10^6 bytes, as sizes of images are given.
const megabyte = 1e6

func sizes(plugin string) []bench.Row {
	whole := atMost("C10", "agent's image, MB", 60, 40)
	small := atMost("C10", "CNI plugin, MB", 5, 3)
	var rows []bench.Row
	if unpacked, err := agentSize(); err != nil {
		rows = append(rows, whole.Fail(err))
	} else {
		rows = append(rows, whole.Judge(one(float64(unpacked)/megabyte), "not compressed"))
	}
	info, err := os.Stat(plugin)
	if err != nil {
		return append(rows, small.Fail(err))
	}
	return append(rows, small.Judge(one(float64(info.Size())/megabyte), ""))
}

func agentSize() (int64, error) {
	img, err := image.Agent(images.Payload, runtime.GOARCH)
	if err != nil {
		return 0, err
	}
	return img.Unpacked()
}
