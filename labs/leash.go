package labs

import (
	"context"
	"crypto/rand"
	"io"
	"strings"
	"sync"
	"time"

	"wirelab.dev/wirelab/internal/cluster"
)

// A command in a container does not end when whoever started it is gone: neither Docker nor a kubelet takes it with the
// connection. So a second command, the leash, waits on the node for the end of its input, which the kernel brings about
// however lab ends. Unless it has been told before that all is well, it then ends what lab started.

// markVar is the environment variable by which the leash knows processes that lab shell started, and theirs.
const markVar = "WIRELAB_SHELL"

// leashScript runs on a node. Its arguments are the mark and, for a container whose commands cannot be marked, the
// container's ID and the command: then it is the processes of that command line in that container, begun after the leash.
const leashScript = `
mark=$1 id=$2; shift 2
began=$(cut -d' ' -f22 /proc/self/stat)
echo ready
read -r word
[ "$word" != done ] || exit 0
ours() {
	if [ -z "$id" ]; then
		grep -lzx "` + markVar + `=$mark" /proc/[0-9]*/environ 2>/dev/null | cut -d/ -f3
		return
	fi
	want=$(printf '%s\n' "$@")
	for p in /proc/[0-9]*; do
		grep -q "$id" "$p/cgroup" 2>/dev/null || continue
		[ "$(tr '\0' '\n' <"$p/cmdline" 2>/dev/null)" = "$want" ] || continue
		stat=$(cat "$p/stat" 2>/dev/null); set -- ${stat##*) }
		[ "${20:-0}" -ge "$began" ] && echo "${p#/proc/}"
	done
}
for signal in HUP TERM KILL; do
	found=$(ours "$@")
	[ -n "$found" ] || exit 0
	kill -s "$signal" $found 2>/dev/null
	for _ in 1 2 3 4 5; do
		sleep 0.1
		[ -n "$(ours "$@")" ] || exit 0
	done
done
`

// leashPatience is how long ending what lab started may take.
const leashPatience = 5 * time.Second

// leash holds a command that runs on a node, or in a pod there.
type leash struct {
	mark  string
	stdin *io.PipeWriter
	ended chan struct{}
}

// newLeash starts a leash on a node. id is that of the pod's container where its commands cannot be marked, else empty.
// A command that is known by its mark may begin at once, another one when this returns.
func newLeash(ctx context.Context, n cluster.Node, id string, cmd ...string) *leash {
	r, w := io.Pipe()
	l := &leash{mark: strings.ToLower(rand.Text()), stdin: w, ended: make(chan struct{})}
	argv := append([]string{"bash", "-c", leashScript, "leash", l.mark, id}, cmd...)
	ready := make(chan struct{})
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	go func() {
		defer close(l.ended)
		defer cancel()
		// Where a leash cannot run, a command runs without one.
		_, _ = n.Engine().ExecStream(ctx, n.Name, r, signalWriter(sync.OnceFunc(func() { close(ready) })), io.Discard, argv...)
		_ = r.Close()
	}()
	if id != "" {
		select {
		case <-ready:
		case <-l.ended:
		case <-time.After(leashPatience):
		}
	}
	return l
}

// signalWriter calls itself for whatever is written.
type signalWriter func()

func (w signalWriter) Write(b []byte) (int, error) {
	w()
	return len(b), nil
}

// env is what marks a command.
func (l *leash) env() string { return markVar + "=" + l.mark }

// drop lets go of a command that has ended. The leash may be waited for in vain for a moment: it has nothing to do.
func (l *leash) drop() {
	go func() { _, _ = io.WriteString(l.stdin, "done\n"); _ = l.stdin.Close() }()
	select {
	case <-l.ended:
	case <-time.After(300 * time.Millisecond):
	}
}

// end lets go of a command that has ended, and ends one that was left.
func (l *leash) end(left error) {
	if left == nil {
		l.drop()
	} else {
		l.pull()
	}
}

// pull ends the command and waits until it has.
func (l *leash) pull() {
	_ = l.stdin.Close()
	select {
	case <-l.ended:
	case <-time.After(leashPatience):
	}
}
