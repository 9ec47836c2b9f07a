// Package client asks an agent, on this node over its unix socket.
package client

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"net/http"
	"net/url"
	"time"

	"wirelab.dev/wirelab/internal/api"
)

// Client speaks with one agent. It holds no connection while it is not
// asking and needs no closing.
type Client struct {
	socket string
	http   *http.Client
}

// New returns a client of the agent at socket, usually api.AgentSocket.
func New(socket string) *Client {
	var d net.Dialer
	return NewOver(socket, func(ctx context.Context) (net.Conn, error) { return d.DialContext(ctx, "unix", socket) })
}

// NewOver returns a client of the agent that dial connects with. Where is what errors call the agent's place.
func NewOver(where string, dial func(context.Context) (net.Conn, error)) *Client {
	return &Client{socket: where, http: &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext:       func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) },
	}}}
}

// Status asks for the agent's state.
func (c *Client) Status(ctx context.Context) (api.Status, error) {
	return answer[api.Status](ctx, c, http.MethodGet, api.StatusPath, nil)
}

// Endpoints asks for the endpoints of the node, sorted by address.
func (c *Client) Endpoints(ctx context.Context) ([]api.Endpoint, error) {
	return list[api.Endpoint](ctx, c, api.EndpointsPath)
}

// LabeledEndpoints asks for them with the labels that their identities stand for.
func (c *Client) LabeledEndpoints(ctx context.Context) ([]api.LabeledEndpoint, error) {
	return list[api.LabeledEndpoint](ctx, c, api.EndpointsPath)
}

// Identities asks for the identities that the node knows, sorted by number.
func (c *Client) Identities(ctx context.Context) ([]api.Identity, error) {
	return list[api.Identity](ctx, c, api.IdentitiesPath)
}

// IPCache asks for who has which address, sorted by prefix.
func (c *Client) IPCache(ctx context.Context) ([]api.IPCacheEntry, error) {
	return list[api.IPCacheEntry](ctx, c, api.IPCachePath)
}

// Features asks for what networks of this kind are known to do, and what of it is on.
func (c *Client) Features(ctx context.Context) ([]api.Feature, error) {
	return list[api.Feature](ctx, c, api.FeaturesPath)
}

// Tunnels asks where packets to other nodes' pods come out of the tunnel, sorted by podCIDR.
func (c *Client) Tunnels(ctx context.Context) ([]api.TunnelEnd, error) {
	return list[api.TunnelEnd](ctx, c, api.TunnelsPath)
}

// Services asks for the Services in the node's maps, sorted by name.
func (c *Client) Services(ctx context.Context) ([]api.Service, error) {
	return list[api.Service](ctx, c, api.ServicesPath)
}

// Frontends asks for the entries of the map of Services, sorted by address.
func (c *Client) Frontends(ctx context.Context) ([]api.Frontend, error) {
	return list[api.Frontend](ctx, c, api.FrontendsPath)
}

// Flows asks for the translated flows as they are opened.
func (c *Client) Flows(ctx context.Context) ([]api.Flow, error) {
	return list[api.Flow](ctx, c, api.FlowsPath)
}

// Translations asks for the translated flows as their answers come.
func (c *Client) Translations(ctx context.Context) ([]api.Flow, error) {
	return list[api.Flow](ctx, c, api.TranslationsPath)
}

func list[T any](ctx context.Context, c *Client, path string) ([]T, error) {
	return answer[[]T](ctx, c, http.MethodGet, path, nil)
}

// Pause keeps reconcilers from mending what they keep, for a while.
func (c *Client) Pause(ctx context.Context, howLong time.Duration, names ...string) (api.Status, error) {
	return answer[api.Status](ctx, c, http.MethodPost, api.PausePath, url.Values{"name": names, "for": {howLong.String()}})
}

// Resume has paused reconcilers go on.
func (c *Client) Resume(ctx context.Context, names ...string) (api.Status, error) {
	return answer[api.Status](ctx, c, http.MethodPost, api.ResumePath, url.Values{"name": names})
}

func answer[T any](ctx context.Context, c *Client, method, path string, query url.Values) (v T, err error) {
	body, err := c.ask(ctx, method, path, query)
	if err != nil {
		return v, err
	}
	defer body.Close()
	if err := json.NewDecoder(body).Decode(&v); err != nil {
		return v, fmt.Errorf("decode %s of the agent: %w", path, err)
	}
	return v, nil
}

// Monitor yields events and marks, a mark first, until ctx is done, the agent
// stops or the consumer does. An error ends the sequence; the end of ctx is not one.
func (c *Client) Monitor(ctx context.Context) iter.Seq2[api.MonitorLine, error] {
	return lines[api.MonitorLine](ctx, c, "events", api.MonitorPath, nil, true)
}

// FlowRecords yields the lines of flow records that f picks: those there are, and with f.Follow those that come, until ctx
// is done, the agent stops or the consumer does. An error ends the sequence; the end of ctx is not one.
func (c *Client) FlowRecords(ctx context.Context, f api.FlowFilter) iter.Seq2[api.FlowLine, error] {
	return lines[api.FlowLine](ctx, c, "flows", api.FlowRecordsPath, f.Values(), f.Follow)
}

// lines yields the objects of an answer that comes bit by bit. The end of one that is endless is an error, unless ctx is done.
func lines[T any](ctx context.Context, c *Client, what, path string, query url.Values, endless bool) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		body, err := c.ask(ctx, http.MethodGet, path, query)
		if err != nil {
			if ctx.Err() == nil {
				var none T
				yield(none, err)
			}
			return
		}
		defer body.Close()
		dec := json.NewDecoder(bufio.NewReader(body))
		for {
			var line T
			err := dec.Decode(&line)
			switch {
			case ctx.Err() != nil, errors.Is(err, io.EOF) && !endless:
				return
			case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
				err = fmt.Errorf("the agent ended the stream of %s: it has stopped, or they were not read for long", what)
			case err != nil:
				err = fmt.Errorf("read %s: %w", what, err)
			}
			if !yield(line, err) || err != nil {
				return
			}
		}
	}
}

// ask returns the body of a 200 answer, which the caller closes.
func (c *Client) ask(ctx context.Context, method, path string, query url.Values) (io.ReadCloser, error) {
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://agent"+path, nil)
	if err != nil {
		return nil, fmt.Errorf("ask the agent for %s: %w", path, err)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask the agent at %s (is it running?): %w", c.socket, err)
	}
	if resp.StatusCode == http.StatusOK {
		return resp.Body, nil
	}
	defer resp.Body.Close()
	var e api.HTTPError
	if err := json.NewDecoder(resp.Body).Decode(&e); err != nil || e.Message == "" {
		e.Message = fmt.Sprintf("ask the agent for %s: %s", path, resp.Status)
	}
	return nil, errors.New(e.Message) // a sentence
}
