package prober

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/time/rate"

	"wirelab.dev/wirelab/verify/probe"
)

// getHTTP makes the requests one after another, or at most Rate of them a
// second whether or not the earlier ones have been answered. What a busy machine
// could not start in time starts late, never in a burst: a burst would measure
// the machine, and keep it busy. When asked ends, no more are made; those that are
// under way then have as long as ctx.
func getHTTP(asked, ctx context.Context, spec probe.HTTP) (*probe.HTTPResult, error) {
	count := max(spec.Count, 1)
	each := time.Duration(spec.RequestTimeout)
	if each <= 0 {
		each = probe.DefaultTimeout
	}
	tally := &tally{start: time.Now(), result: probe.HTTPResult{AnsweredBy: map[string]int{}}}
	transport := transport(spec)
	defer transport.CloseIdleConnections()
	var senders []sender // which requests take turns on
	for range spec.Connections {
		l := &lasting{dial: transport.DialContext, lost: tally.lose}
		defer l.close()
		senders = append(senders, l.send)
	}
	if len(senders) == 0 {
		senders = append(senders, (&http.Client{Transport: transport}).Do)
	}
	var requests sync.WaitGroup
	limit := rate.Inf
	if spec.Rate > 0 {
		limit = rate.Limit(spec.Rate)
	}
	pace := rate.NewLimiter(limit, 1)
	for i := range count {
		send := senders[i%len(senders)]
		if pace.Wait(asked) != nil {
			break
		}
		one := func() {
			ctx, cancel := context.WithTimeout(ctx, each)
			defer cancel()
			begin := time.Now()
			status, id, err := getOnce(ctx, send, spec.URL)
			tally.add(begin, status, id, err)
		}
		if spec.Rate > 0 {
			requests.Go(one)
		} else {
			one()
		}
	}
	requests.Wait()
	if canceled(asked) && tally.result.Sent > 0 {
		count = tally.result.Sent
	}
	return tally.total(count)
}

func transport(spec probe.HTTP) *http.Transport {
	dialer := &net.Dialer{}
	if spec.Source.IsValid() {
		dialer.LocalAddr = &net.TCPAddr{IP: spec.Source.AsSlice()}
	}
	if spec.Interface != "" {
		dialer.Control = option(func(fd int) error { return unix.BindToDevice(fd, spec.Interface) })
	}
	// No proxy: a proxy of the environment would answer for the network.
	return &http.Transport{DialContext: dialer.DialContext, DisableKeepAlives: !spec.KeepAlive, MaxIdleConnsPerHost: 100}
}

// sender sends a request and gets its answer.
type sender func(*http.Request) (*http.Response, error)

func getOnce(ctx context.Context, send sender, url string) (int, *probe.Identity, error) {
	var conn connected
	request, err := http.NewRequestWithContext(conn.watch(ctx), http.MethodGet, url, nil)
	if err != nil {
		return 0, nil, fmt.Errorf("make the request: %w", err)
	}
	request.Header.Set("Accept", "application/json")
	response, err := send(request)
	if err != nil {
		return 0, nil, conn.explain(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err != nil {
		return response.StatusCode, nil, fmt.Errorf("read the answer: %w", err)
	}
	if response.StatusCode != http.StatusOK {
		return response.StatusCode, nil, fmt.Errorf("status %s: %.200q", response.Status, body)
	}
	id := &probe.Identity{}
	if err := json.Unmarshal(body, id); err != nil || !id.Client.IsValid() {
		return response.StatusCode, nil, fmt.Errorf("the answer is not from nettool: %.200q", body)
	}
	return response.StatusCode, id, nil
}

// tally adds up requests that end in any order.
type tally struct {
	mu        sync.Mutex
	start     time.Time
	result    probe.HTTPResult
	latencies []time.Duration
}

func (t *tally) add(begin time.Time, status int, id *probe.Identity, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.result.Sent++
	if status != 0 {
		t.result.Status = status
	}
	if err != nil {
		if len(t.result.Failures) < probe.MaxFailures {
			t.result.Failures = append(t.result.Failures, probe.HTTPFailure{After: probe.Duration(begin.Sub(t.start)), Error: err.Error()})
		}
		return
	}
	t.result.OK++
	t.result.Identity = id
	t.result.AnsweredBy[id.Pod]++
	t.latencies = append(t.latencies, time.Since(begin))
}

func (t *tally) lose() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.result.Lost++
}

func (t *tally) total(count int) (*probe.HTTPResult, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n := len(t.latencies); n > 0 {
		slices.Sort(t.latencies)
		t.result.P50 = probe.Duration(t.latencies[n/2])
		t.result.P99 = probe.Duration(t.latencies[n*99/100])
		t.result.Max = probe.Duration(t.latencies[n-1])
	}
	switch {
	case t.result.OK == count && t.result.Lost > 0:
		return &t.result, failf("%d connections were lost", t.result.Lost)
	case t.result.OK == count:
		return &t.result, nil
	case t.result.Sent < count && len(t.result.Failures) == 0:
		return &t.result, failf("time ran out after %d of %d requests", t.result.Sent, count)
	case count == 1:
		return &t.result, failf("%s", t.result.Failures[0].Error)
	}
	// After is when the request was sent, and its failure may be that it was waited for.
	return &t.result, failf("%d of %d requests were answered; the first that failed, sent at %s: %s",
		t.result.OK, count, time.Duration(t.result.Failures[0].After).Round(time.Millisecond), t.result.Failures[0].Error)
}
