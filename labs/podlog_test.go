package labs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	corev1 "k8s.io/api/core/v1"

	"wirelab.dev/wirelab/internal/api"
	"wirelab.dev/wirelab/internal/kube"
)

// fakeLog answers as the API server does.
type fakeLog struct {
	lines []string
	began time.Time
	asked int
}

func (f *fakeLog) open(o corev1.PodLogOptions) (io.ReadCloser, error) {
	f.asked++
	var b bytes.Buffer
	lines := f.lines
	if o.TailLines != nil {
		lines = lines[max(0, len(lines)-int(*o.TailLines)):]
	}
	for i, line := range f.lines {
		at := f.began.Add(time.Duration(i) * 300 * time.Millisecond)
		if i < len(f.lines)-len(lines) || o.SinceTime != nil && at.Before(o.SinceTime.Time) {
			continue
		}
		if o.Timestamps {
			line = at.Format(time.RFC3339Nano) + " " + line
		}
		fmt.Fprintln(&b, line)
	}
	return io.NopCloser(&b), nil
}

// agentLines are two lines on which a state changed, with many about packets between and behind them.
func agentLines() []string {
	var b bytes.Buffer
	log := slog.New(slog.NewTextHandler(&b, nil))
	packets := log.With(api.LogTopic, api.PacketTopic)
	log.Info("first")
	for range 3000 {
		packets.Info("packet", "src", "10.0.0.1")
	}
	log.Info("second", "about", "packets")
	for range 3000 {
		packets.Info("packet", "src", "10.0.0.1")
	}
	return strings.Split(strings.TrimSpace(b.String()), "\n")
}

func TestLogsLeaveOutPackets(t *testing.T) {
	f := &fakeLog{lines: agentLines(), began: time.Unix(1_000_000_000, 0)}
	show := func(o LogOptions) []string {
		var got []string
		log := podLog{open: f.open, emit: func(line writtenLine) { got = append(got, line.text) }}
		if err := log.show(o); err != nil {
			t.Fatal(err)
		}
		return got
	}
	quiet := []string{f.lines[0], f.lines[3001]}
	for _, tt := range []struct {
		o    LogOptions
		want []string
	}{
		{LogOptions{Tail: 50}, quiet},
		{LogOptions{Tail: 1}, quiet[1:]},
		{LogOptions{Tail: 0}, nil},
		{LogOptions{Tail: -1}, quiet},
		{LogOptions{Tail: 2, Packets: true}, f.lines[6000:]},
		{LogOptions{Tail: -1, Packets: true}, f.lines},
		{LogOptions{Tail: 50, Follow: true}, quiet}, // nothing of it twice
	} {
		if got := show(tt.o); !slices.Equal(got, tt.want) {
			t.Errorf("%+v: %d lines, want %d", tt.o, len(got), len(tt.want))
		}
	}
}

// TestLogsGoOnWhereTheyEnded: what comes while the first lines are read is neither lost nor shown twice.
func TestLogsGoOnWhereTheyEnded(t *testing.T) {
	f := &fakeLog{lines: []string{"a", "b"}, began: time.Unix(1_000_000_000, 0)}
	var got []string
	log := podLog{emit: func(line writtenLine) { got = append(got, line.text) }}
	log.open = func(o corev1.PodLogOptions) (io.ReadCloser, error) {
		if o.Follow {
			f.lines = append(f.lines, "c", "x topic=packets", "d")
		}
		return f.open(o)
	}
	if err := log.show(LogOptions{Tail: 1, Follow: true}); err != nil {
		t.Fatal(err)
	}
	if want := []string{"b", "c", "d"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestLogThatBreaksOff: the lines that came are shown, and the error says of which pod.
func TestLogThatBreaksOff(t *testing.T) {
	var got []string
	log := podLog{
		pod: kube.PodRef{Namespace: "ns", Name: "x"}, emit: func(line writtenLine) { got = append(got, line.text) },
		open: func(corev1.PodLogOptions) (io.ReadCloser, error) {
			return io.NopCloser(io.MultiReader(strings.NewReader("a\n"), iotest.ErrReader(io.ErrUnexpectedEOF))), nil
		},
	}
	for _, o := range []LogOptions{{Tail: 5}, {Tail: 5, Packets: true}, {Tail: 5, Follow: true}} {
		got = nil
		err := log.show(o)
		if !errors.Is(err, io.ErrUnexpectedEOF) || !strings.HasPrefix(err.Error(), "read log of pod ns/x: ") || !slices.Equal(got, []string{"a"}) {
			t.Errorf("%+v: %q, %v", o, got, err)
		}
	}
}
