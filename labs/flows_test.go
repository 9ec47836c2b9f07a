package labs

import (
	"context"
	"fmt"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"wirelab.dev/wirelab/internal/api"
	"wirelab.dev/wirelab/internal/api/client"
)

// TestFlowsOfASilentAgent: an agent that does not begin to answer is given up. Once it has begun it may take its time.
func TestFlowsOfASilentAgent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		read := func(ctx context.Context, answer func(net.Conn)) (lines int, err error) {
			c := client.NewOver("a pod", func(context.Context) (net.Conn, error) {
				near, far := net.Pipe()
				go func() { _, _ = io.Copy(io.Discard, far) }()
				go answer(far)
				return near, nil
			})
			err = readFlows(ctx, c, api.FlowFilter{Last: -1}, func(api.FlowLine) bool { lines++; return true })
			return lines, err
		}
		began := time.Now()
		_, err := read(t.Context(), func(net.Conn) {})
		if err == nil || err.Error() != "its agent does not answer within 20s" || time.Since(began) != beginTimeout {
			t.Errorf("after %s: %v", time.Since(began), err)
		}
		lines, err := read(t.Context(), func(c net.Conn) {
			fmt.Fprint(c, "HTTP/1.0 200 OK\r\n\r\n", `{"start":{"node":"a"}}`, "\n")
			time.Sleep(time.Hour)
			fmt.Fprintln(c, `{"flow":{}}`)
			c.Close()
		})
		if err != nil || lines != 2 {
			t.Errorf("of one that has begun: %d lines, %v", lines, err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := read(ctx, func(net.Conn) {}); err != nil {
			t.Errorf("who waits no more is told %v", err)
		}
	})
}
