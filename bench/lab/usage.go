package lab

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"wirelab.dev/wirelab/bench"
	"wirelab.dev/wirelab/internal/cluster"
)

// process is what one takes of its node.
type process struct {
	rssKiB int64
	ticks  int64 // of CPU time, in the unit of /proc/<pid>/stat
}

const (
	agentName     = "wirelab-agent"
	kubeProxyName = "kube-proxy"
	ticksASecond  = 100
)

// usageScript prints name, resident KiB and CPU ticks of every such process. The fields of stat are counted
// after the name, which is in brackets and has no blanks here.
const usageScript = `for d in /proc/[0-9]*; do
	read -r name <"$d/comm" 2>/dev/null || continue
	case $name in ` + agentName + `|` + kubeProxyName + `) ;; *) continue ;; esac
	echo "$name $(awk '/^VmRSS/ {print $2}' "$d/status") $(awk '{print $14 + $15}' "$d/stat")"
done`

// look adds up what the processes of each name take on a node.
func look(ctx context.Context, n cluster.Node) (map[string]process, error) {
	out, err := n.Run(ctx, strings.NewReader(usageScript), "sh")
	if err != nil {
		return nil, fmt.Errorf("look at the processes of node %s: %w", n.Name, err)
	}
	return parseUsage(string(out))
}

func parseUsage(text string) (map[string]process, error) {
	found := map[string]process{}
	for line := range strings.Lines(text) {
		var name string
		var p process
		if _, err := fmt.Sscan(line, &name, &p.rssKiB, &p.ticks); err != nil {
			return nil, fmt.Errorf("read %q: %w", strings.TrimSpace(line), err)
		}
		sum := found[name]
		found[name] = process{sum.rssKiB + p.rssKiB, sum.ticks + p.ticks}
	}
	return found, nil
}

// usage are the goals C4 and C5, on the node where they are worst.
func usage(ctx context.Context, cfg Config) ([]bench.Row, error) {
	before, err := lookAll(ctx, cfg)
	if err != nil {
		return nil, err
	}
	select {
	case <-ctx.Done():
		return nil, fmt.Errorf("watch idle agents: %w", context.Cause(ctx))
	case <-time.After(cfg.Idle):
	}
	after, err := lookAll(ctx, cfg)
	if err != nil {
		return nil, err
	}
	return usageRows(before, after, cfg.Idle)
}

func lookAll(ctx context.Context, cfg Config) ([]map[string]process, error) {
	var all []map[string]process
	for _, n := range cfg.Nodes {
		one, err := look(ctx, n)
		if err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	return all, nil
}

const mib = 1024.0 // KiB

// idleCPU is goal C5. It is about 5 minutes; in less, what the agent does now and then weighs more, and the bar
// is a loose one.
func idleCPU(watched time.Duration) bench.Goal {
	bar := 0.3
	if watched < 5*time.Minute {
		bar = 0.6
	}
	return bench.Goal{ID: "C5", What: "agent's CPU time when idle, % of a CPU", Bar: bench.AtMost(bar), Aim: bench.AtMost(0.1)}
}

func usageRows(before, after []map[string]process, idle time.Duration) ([]bench.Row, error) {
	memory := bench.Goal{ID: "C4", What: "agent's resident memory, MiB", Bar: bench.AtMost(60), Aim: bench.AtMost(35)}
	compared := bench.Goal{ID: "C4", What: "the same / kube-proxy's", Bar: bench.AtMost(1), Aim: bench.AtMost(1)}
	var most, share, ratio float64
	for i, now := range after {
		a, ok := now[agentName]
		if !ok {
			return nil, errors.New("there is a node without an agent: lab status says which")
		}
		most = max(most, float64(a.rssKiB)/mib)
		share = max(share, 100*float64(a.ticks-before[i][agentName].ticks)/ticksASecond/idle.Seconds())
		if proxy, ok := now[kubeProxyName]; ok {
			ratio = max(ratio, float64(a.rssKiB)/float64(proxy.rssKiB))
		}
	}
	rows := []bench.Row{
		memory.Judge(bench.Summarize(most), "the node with most"),
		idleCPU(idle).Judge(bench.Summarize(share), fmt.Sprintf("in %s, the node with most", idle)),
	}
	if ratio == 0 {
		return append(rows, compared.Absent("no kube-proxy runs here")), nil
	}
	return append(rows, compared.Judge(bench.Summarize(ratio), "the node where it is highest")), nil
}
