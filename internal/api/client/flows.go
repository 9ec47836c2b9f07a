package client

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"

	"wirelab.dev/wirelab/internal/api"
)

// FlowRecords yields the lines of flow records that f picks: those there are, and with f.Follow those that come, until ctx
// is done, the agent stops or the consumer does. An error ends the sequence; the end of ctx is not one.
func (c *Client) FlowRecords(ctx context.Context, f api.FlowFilter) iter.Seq2[api.FlowLine, error] {
	return func(yield func(api.FlowLine, error) bool) {
		path := api.FlowRecordsPath
		if query := f.Values().Encode(); query != "" {
			path += "?" + query
		}
		body, err := c.open(ctx, path)
		if err != nil {
			if ctx.Err() == nil {
				yield(api.FlowLine{}, err)
			}
			return
		}
		defer body.Close()
		dec := json.NewDecoder(bufio.NewReader(body))
		for {
			var line api.FlowLine
			err := dec.Decode(&line)
			switch {
			case ctx.Err() != nil, errors.Is(err, io.EOF) && !f.Follow:
				return
			case errors.Is(err, io.EOF):
				err = errors.New("read flows: the agent ended the stream")
			case err != nil:
				err = fmt.Errorf("read flows: %w", err)
			}
			if !yield(line, err) || err != nil {
				return
			}
		}
	}
}
