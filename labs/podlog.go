package labs

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"wirelab.dev/wirelab/internal/api"
	"wirelab.dev/wirelab/internal/kube"
)

// podLog is the log of one pod.
type podLog struct {
	pod  kube.PodRef
	open func(corev1.PodLogOptions) (io.ReadCloser, error)
	emit func(writtenLine)
}

// writtenLine is a line of a log and when it was written, the zero time where nobody says.
type writtenLine struct {
	at   time.Time
	text string
}

// show emits the lines that o asks for.
func (l podLog) show(o LogOptions) error {
	if o.Packets || o.Tail < 0 {
		opts := corev1.PodLogOptions{Follow: o.Follow}
		if o.Tail >= 0 {
			opts.TailLines = &o.Tail
		}
		return l.read(opts, func(line writtenLine) {
			if o.Packets || !aboutPacket(line.text) {
				l.emit(line)
			}
		})
	}
	lines, until, err := l.last(int(o.Tail))
	for _, line := range lines {
		l.emit(line)
	}
	if err != nil || !o.Follow {
		return err
	}
	return l.follow(until)
}

// aboutPacket tells whether an agent's line is about packets.
func aboutPacket(line string) bool {
	return strings.Contains(line, " "+api.LogTopic+"="+api.PacketTopic)
}

// last are the n last lines that are not about packets, and when the last line of all was written. It asks for more lines
// as long as too many of them are.
func (l podLog) last(n int) (lines []writtenLine, until time.Time, err error) {
	for ask := max(20*int64(n), 1000); ; ask *= 10 {
		lines = nil
		all := int64(0)
		err = l.read(corev1.PodLogOptions{TailLines: &ask}, func(line writtenLine) {
			all++
			if line.at.After(until) {
				until = line.at
			}
			if !aboutPacket(line.text) {
				lines = append(lines, line)
			}
		})
		if err != nil || len(lines) >= n || all < ask {
			return lines[max(0, len(lines)-n):], until, err
		}
	}
}

// follow goes on with lines that were written later. The API is precise to a second, the lines' own times are not.
func (l podLog) follow(after time.Time) error {
	opts := corev1.PodLogOptions{Follow: true}
	if !after.IsZero() {
		since := metav1.NewTime(after.Truncate(time.Second))
		opts.SinceTime = &since
	}
	return l.read(opts, func(line writtenLine) {
		if line.at.After(after) && !aboutPacket(line.text) {
			l.emit(line)
		}
	})
}

// unstamped is a line without the time that the API has put before it.
func unstamped(stamped string) writtenLine {
	stamp, line, _ := strings.Cut(stamped, " ")
	at, err := time.Parse(time.RFC3339Nano, stamp)
	if err != nil {
		return writtenLine{text: stamped}
	}
	return writtenLine{at, line}
}

func (l podLog) read(opts corev1.PodLogOptions, each func(writtenLine)) error {
	opts.Timestamps = true
	r, err := l.open(opts)
	if err != nil {
		return err
	}
	defer r.Close()
	lines := bufio.NewReader(r)
	for {
		// Not a Scanner: a log line has no longest length.
		line, err := lines.ReadString('\n')
		if line != "" {
			each(unstamped(strings.TrimSuffix(line, "\n")))
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read log of pod %s: %w", l.pod, err)
		}
	}
}
