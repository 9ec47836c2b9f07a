package labs

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"
	"time"

	"wirelab.dev/wirelab/internal/api"
	"wirelab.dev/wirelab/internal/bugreport"
	"wirelab.dev/wirelab/internal/cluster"
	"wirelab.dev/wirelab/labs/demo"
)

// commandTimeout is how long a command of a report may take on a node. It ends there, too.
const commandTimeout = 20 * time.Second

// bootLines are how many of the last lines of a node's container a report has.
const bootLines = 300

// nodeLook is something that a node itself is asked for, not the agent on it.
type nodeLook struct{ title, file, script string }

// nodeLooks need nothing but Docker and the node: they are there, too, where the API server or the agent is not.
func nodeLooks() []nodeLook {
	return []nodeLook{
		{"Kernel, load, memory, disk", "machine.txt", "uname -a; uptime; free -m; df -h / /var"},
		{"Links", "links.txt", "ip -details -statistics link; echo; ip address"},
		{"Routing rules", "rules.txt", "ip rule"},
		{"Routes", "routes.txt", "ip route show table all"},
		{"Neighbours", "neighbours.txt", "ip neighbour"},
		{"iptables rules (nf_tables)", "iptables.txt", "iptables-nft-save -c"},
		{"iptables rules (legacy)", "iptables-legacy.txt", "iptables-legacy-save -c"},
		{"nftables rules", "nftables.txt", "nft list ruleset"},
		{"Kernel settings", "sysctls.txt", `sysctl -a -r '^(net\.(ipv4|core|netfilter)|kernel\.(bpf_|unprivileged_bpf))' 2>/dev/null`},
		{"BPF programs, where they are attached, and how often they ran where kernel.bpf_stats_enabled is 1", "programs.txt", programsScript},
		{"BPF maps", "maps.txt", "bpftool version >/dev/null || exit; shopt -s nullglob; for m in /sys/fs/bpf/wirelab/maps/*/*; do echo \"$m\"; bpftool map show pinned \"$m\"; done"},
		{"CNI", "cni.txt", "shopt -s nullglob; ls -l /etc/cni/net.d /opt/cni/bin; for f in /etc/cni/net.d/*wirelab*; do echo; cat \"$f\"; done"},
		{"Log of the kubelet", "kubelet.log", "journalctl --no-pager -o short-iso -u kubelet -n 400"},
		{"Log of containerd", "containerd.log", "journalctl --no-pager -o short-iso -u containerd -n 200"},
	}
}

// programsScript lists the programs behind the node's links, and no other's: nodes share a kernel.
const programsScript = `bpftool version >/dev/null || exit
shopt -s nullglob
sysctl kernel.bpf_stats_enabled
bpftool net show
links=$(for l in /sys/fs/bpf/wirelab/links/*; do echo "$l"; bpftool link show pinned "$l"; done)
echo "$links"
{ bpftool net show; echo "$links"; } | grep -oE '\b(prog_id|prog) [0-9]+' | cut -d' ' -f2 | sort -un |
  while read -r id; do bpftool prog show id "$id"; done`

// nodeAsks are all questions about a node.
func (b *bugReporter) nodeAsks(n cluster.Node) []ask {
	section, dir := "Node "+n.Name, "nodes/"+n.Name
	asks := []ask{{
		part: bugreport.Part{Section: section, Title: "What the node's container has written as it started", Path: dir + "/boot.log", Tail: true},
		do:   func(ctx context.Context) ([]byte, error) { return b.lab.Engine.Logs(ctx, n.Name, bootLines) },
	}}
	if n.Role == cluster.RoleLoadBalancer {
		return asks
	}
	if why := n.Down(); why != "" {
		b.lack(section, "all that only a running node can tell", dir, fmt.Errorf("the node %s: lab up starts or resumes it", why))
		return asks
	}
	for _, look := range nodeLooks() {
		asks = append(asks, ask{
			part: bugreport.Part{Section: section, Title: look.title, Path: path.Join(dir, look.file), Tail: strings.HasSuffix(look.file, ".log")},
			do:   func(ctx context.Context) ([]byte, error) { return b.run(ctx, n, look.script) },
		})
	}
	return append(asks,
		ask{more: func(ctx context.Context) []bugreport.Part { return b.agentParts(ctx, n, section, dir+"/agent") }},
		ask{more: func(ctx context.Context) []bugreport.Part { return b.podLogs(ctx, n, section, dir+"/logs") }},
	)
}

// run runs a script on a node, which may write maxAnswer and take commandTimeout. What it wrote is there also where it failed.
func (b *bugReporter) run(ctx context.Context, n cluster.Node, script string) ([]byte, error) {
	var out, errs bounded
	limit := strconv.Itoa(int(commandTimeout / time.Second))
	code, err := b.lab.Engine.ExecStream(ctx, n.Name, nil, &out, &errs, "timeout", "-k", "2", limit, "bash", "-c", script)
	const timedOut = 124
	switch {
	case err != nil:
	case code == timedOut:
		err = fmt.Errorf("not done within %s", commandTimeout)
	case code != 0:
		err = errors.New(cmp.Or(strings.TrimSpace(errs.String()), fmt.Sprintf("exit status %d", code)))
	default:
		err = out.err()
	}
	return out.whole(), err
}

// askHere asks the agent of a node on the node itself, with the agent's own program: it needs no API server.
func (b *bugReporter) askHere(ctx context.Context, n cluster.Node, args ...string) ([]byte, error) {
	script := fmt.Sprintf(`pid=$(pgrep -o -x wirelab-agent) || { echo "no agent runs on this node" >&2; exit 1; }
exec "/proc/$pid/exe" %s -o json`, strings.Join(args, " "))
	answer, err := b.run(ctx, n, script)
	if json.Valid(bytes.TrimSpace(answer)) {
		return answer, nil // as the status of a node that is not ready, which ends with 1
	}
	if _, words, ok := strings.Cut(fmt.Sprint(err), "wirelab-agent: "); ok {
		err = errors.New(words)
	}
	return answer, err
}

// agentParts are what the agent of a node tells. What it serves of metrics is with it. Where there is no agent, this is said once.
func (b *bugReporter) agentParts(ctx context.Context, n cluster.Node, section, dir string) []bugreport.Part {
	status := ask{
		part: bugreport.Part{Section: section, Title: "Status of the agent", Path: dir + "/status.json"},
		do:   func(ctx context.Context) ([]byte, error) { return b.askHere(ctx, n, "status") },
	}.answer(ctx)
	var told api.Status
	if json.Unmarshal(status.Content, &told) == nil {
		b.mu.Lock()
		b.agents[n.Name] = &told
		b.mu.Unlock()
	}
	if len(status.Content) == 0 {
		status.Title = "all that the agent knows: status, maps' entries, flows, metrics"
		return []bugreport.Part{status}
	}
	parts := []bugreport.Part{status}
	for _, l := range b.Lists {
		if p := b.lab.Profile; p == nil || l.Of != nil && !l.Of(p) {
			continue
		}
		name := strings.Trim(strings.NewReplacer(" ", "-", "--", "").Replace(strings.Join(l.Args, " ")), "-")
		parts = append(parts, ask{
			part: bugreport.Part{Section: section, Title: l.Title, Path: dir + "/" + name + ".json"},
			do:   func(ctx context.Context) ([]byte, error) { return b.askHere(ctx, n, l.Args...) },
			show: l.Show,
		}.answer(ctx))
	}
	return append(parts, ask{
		part: bugreport.Part{Section: section, Title: "Metrics of the agent", Path: dir + "/metrics.txt"},
		do: func(ctx context.Context) ([]byte, error) {
			return b.run(ctx, n, "curl -sS --max-time 10 http://127.0.0.1:9962/metrics")
		},
	}.answer(ctx))
}

// logsScript has the last lines of logs, whole ones: what is left of a secret that is cut does not look like one.
const logsScript = `shopt -s nullglob
LC_ALL=C
for f in /var/log/pods/{%s_,%s_%s-}*/*/*.log; do
  text=$(grep -av ' %s=%s' "$f" | tail -n 300)
  if ((${#text} > 65536)); then text=${text: -65536}; text=${text#*$'\n'}; fi
  printf '\n%s%%s\n%%s\n' "$f" "$text"
done`

// podLogs are the ends of the logs that a node keeps of the system's and the demo's pods, those of earlier runs too.
func (b *bugReporter) podLogs(ctx context.Context, n cluster.Node, section, dir string) []bugreport.Part {
	const mark = "==> "
	all := ask{
		part: bugreport.Part{Section: section, Title: "Logs of pods", Path: dir},
		do: func(ctx context.Context) ([]byte, error) {
			return b.run(ctx, n, fmt.Sprintf(logsScript, SystemNamespace, demo.Namespace, demo.Name, api.LogTopic, api.PacketTopic, mark))
		},
	}.answer(ctx)
	var parts []bugreport.Part
	if all.Lacking != "" {
		parts = append(parts, bugreport.Part{Section: section, Title: all.Title, Path: dir, Lacking: all.Lacking})
	}
	for _, text := range strings.Split("\n"+string(all.Content), "\n"+mark)[1:] {
		file, content, _ := strings.Cut(text, "\n")
		pod, container, run := logOf(file)
		parts = append(parts, bugreport.Part{
			Section: section, Title: fmt.Sprintf("Log of %s, container %s, run %s", pod, container, run),
			Path: fmt.Sprintf("%s/%s_%s_%s.log", dir, strings.ReplaceAll(pod, "/", "_"), container, run), Content: []byte(content), Tail: true,
		})
	}
	return parts
}

// logOf is whose log a file is, as kubelets name them: namespace_pod_uid/container/run.log.
func logOf(file string) (pod, container, run string) {
	rest, last := path.Split(file)
	rest, container = path.Split(strings.TrimSuffix(rest, "/"))
	names := strings.SplitN(path.Base(rest), "_", 3)
	pod = names[0]
	if len(names) > 1 {
		pod += "/" + names[1]
	}
	return pod, container, strings.TrimSuffix(last, ".log")
}
