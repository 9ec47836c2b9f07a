package agent

import (
	"context"
	"iter"
	"log/slog"
	"time"

	"golang.org/x/time/rate"

	"wirelab.dev/wirelab/internal/api"
)

const (
	// Packets logged a second by debug.verbose=datapath, and in a burst. What is
	// more is counted: a log that slows its node down shows another node.
	loggedPerSecond = 50
	loggedBurst     = 200
	// loggedLate is how late packets may come into the log.
	loggedLate = 3 * time.Second
)

// logEvents writes packets into the log until ctx is done. What it writes can be
// told from all else that is logged.
func logEvents(ctx context.Context, events iter.Seq2[api.Event, error], log *slog.Logger) {
	log = log.With(api.LogTopic, api.PacketTopic)
	limit := rate.NewLimiter(loggedPerSecond, loggedBurst)
	left := 0
	for e, err := range events {
		if err != nil {
			if ctx.Err() == nil {
				log.Warn("stopped logging packets", "err", err)
			}
			return
		}
		if e.Type == api.EventLost {
			left += e.Missed
			continue
		}
		if e.Type == api.EventStep {
			continue // several of each packet: they are for monitor
		}
		if !limit.Allow() {
			left++
			continue
		}
		if left > 0 {
			log.Debug("packets left out of the log: there were too many", "packets", left)
			left = 0
		}
		log.Debug("packet", "point", e.Point, "reason", e.Reason, "drop", e.Type == api.EventDrop, "iface", e.Iface,
			"src", e.Src, "dst", e.Dst, "proto", e.Proto, "ttl", e.TTL, "bytes", e.Length)
	}
}
