package tap

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"

	"golang.org/x/sys/unix"
)

// compile has tcpdump make a program of the filter for a device, in the calling thread's network namespace: its language is
// libpcap's, which no static binary has. An empty filter is no program.
func compile(ctx context.Context, filter, device string) ([]unix.SockFilter, error) {
	if filter == "" {
		return nil, nil
	}
	tcpdump, err := exec.LookPath("tcpdump")
	if err != nil {
		return nil, errors.New("no tcpdump, which a filter is made with: leave the filter away, or make the lab with the image of lab image build")
	}
	var out, words bytes.Buffer
	cmd := exec.CommandContext(ctx, tcpdump, "-p", "-ddd", "-i", device, "--", filter) //nolint:gosec // a filter is one argument
	cmd.Stdout, cmd.Stderr = &out, &words
	if err := cmd.Run(); err != nil {
		lines := strings.Split(strings.TrimSpace(words.String()), "\n")
		why := strings.TrimPrefix(lines[len(lines)-1], "tcpdump: ")
		if why == "" {
			why = err.Error()
		}
		return nil, fmt.Errorf("tcpdump refuses the filter %q: %s", filter, why)
	}
	return parse(out.String())
}

// parse reads a program as tcpdump -ddd prints it: how many instructions there are, and then each as four numbers.
func parse(text string) ([]unix.SockFilter, error) {
	in := strings.NewReader(text)
	var n int
	if _, err := fmt.Fscan(in, &n); err != nil || n < 1 || n > 4096 { // BPF_MAXINSNS
		return nil, fmt.Errorf("tcpdump made no program of the filter: %q", text)
	}
	out := make([]unix.SockFilter, n)
	for i := range out {
		if _, err := fmt.Fscan(in, &out[i].Code, &out[i].Jt, &out[i].Jf, &out[i].K); err != nil {
			return nil, fmt.Errorf("read instruction %d of the filter: %w", i, err)
		}
	}
	return out, nil
}
