package api

import "time"

// MonitorLine is one line of the stream at MonitorPath: an event, or a mark, which says how far the stream is.
type MonitorLine struct {
	Event *Event `json:"event,omitempty"`
	// UpTo is the time before which no event follows; it is set in marks. The first line is one. Then they come several
	// times a second.
	UpTo time.Time `json:"upTo,omitzero"`
}
