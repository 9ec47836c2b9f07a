package show

import (
	"fmt"
	"net/netip"
	"reflect"
	"strconv"
	"strings"
	"time"

	"wirelab.dev/wirelab/internal/api"
)

// Services lists Services, each with its addresses and the backends of each of
// them. "here" is behind backends on this node.
func Services(services []api.Service) Table {
	t := Table{Head: []string{"ID", "FRONTEND", "TYPE", "BACKEND", "SERVICE"}}
	for _, s := range services {
		var rows [][]string
		for _, f := range s.Frontends {
			for i, b := range frontendCells(s, f) {
				row := []string{"", "", "", b, ""}
				if i == 0 {
					row[1], row[2] = f.Addr.String()+"/"+s.Protocol, f.Type
				}
				rows = append(rows, row)
			}
		}
		if s.ID == 0 {
			rows = append(rows, []string{"", "", "", "none: left out", ""})
		}
		for i, note := range serviceNotes(s) {
			if i == len(rows) {
				rows = append(rows, make([]string, len(t.Head)))
			}
			rows[i][4] = note
		}
		if s.ID != 0 {
			rows[0][0] = id(s.ID)
		}
		t.Rows = append(t.Rows, rows...)
	}
	return t
}

// frontendCells are the backends of one address. Where clients outside the
// cluster are sent only to those on this node, others are marked.
func frontendCells(s api.Service, f api.ServiceFrontend) []string {
	cells := backendCells(f.Backends)
	if !s.ExternalLocal || f.Type == "ClusterIP" || f.Addr.Addr().IsLoopback() {
		return cells
	}
	for i, b := range f.Backends {
		if !b.OnNode {
			cells[i] += " inside only"
		}
	}
	return cells
}

// serviceNotes are the name, and what is special about the Service.
func serviceNotes(s api.Service) []string {
	notes := []string{named(s.Service)}
	if s.Affinity > 0 {
		notes = append(notes, "affinity "+Duration(s.Affinity))
	}
	if s.InternalLocal {
		notes = append(notes, "inside: only here")
	}
	if s.ExternalLocal {
		notes = append(notes, "outside: only here")
	}
	for _, r := range s.SourceRanges {
		notes = append(notes, "from "+r.String())
	}
	for _, text := range s.LeftOut {
		notes = append(notes, "left out: "+text)
	}
	return notes
}

// Frontends lists the map of Services, a line for each backend of an entry.
// Entries for inside and outside that are the same otherwise are shown once.
func Frontends(frontends []api.Frontend) Table {
	t := Table{Head: []string{"FRONTEND", "ID", "FROM", "TYPE", "BACKEND", "SERVICE"}}
	for _, f := range onceEach(frontends) {
		notes := []string{named(f.Service)}
		if f.Local {
			notes = append(notes, "only here")
		}
		if f.Affinity > 0 {
			notes = append(notes, "affinity "+Duration(f.Affinity))
		}
		for _, r := range f.SourceRanges {
			notes = append(notes, "from "+r.String())
		}
		backends := backendCells(f.Backends)
		for i := range max(len(backends), len(notes)) {
			row := []string{"", "", "", "", cell(backends, i), cell(notes, i)}
			if i == 0 {
				row[0], row[1], row[2], row[3] = f.Addr.String()+"/"+f.Protocol, id(f.ID), f.From, f.Type
			}
			t.Rows = append(t.Rows, row)
		}
	}
	return t
}

// onceEach joins neighbors that differ in From alone.
func onceEach(frontends []api.Frontend) []api.Frontend {
	var out []api.Frontend
	for _, f := range frontends {
		if len(out) > 0 {
			last := &out[len(out)-1]
			same := f
			same.From = last.From
			if reflect.DeepEqual(same, *last) {
				last.From = "both"
				continue
			}
		}
		out = append(out, f)
	}
	return out
}

func backendCells(backends []api.Backend) []string {
	if len(backends) == 0 {
		return []string{"none: refused"}
	}
	cells := make([]string, len(backends))
	for i, b := range backends {
		cells[i] = b.Addr.String()
		if b.OnNode {
			cells[i] += " here"
		}
	}
	return cells
}

// flowTable lists translated flows. head is what their packets are: sent, or the answer.
func flowTable(head string) func([]api.Flow) Table {
	return tableOf([]string{"PROTO", head, "GOES ON AS", "STATE", "EXPIRES"}, func(f api.Flow) []string {
		return []string{f.Protocol, arrow(f.Src, f.Dst), rewritten(f), f.State, expires(f.Expires)}
	})
}

// rewritten leaves out what stays the same.
func rewritten(f api.Flow) string {
	switch {
	case f.NewSrc == f.Src:
		return "> " + f.NewDst.String()
	case f.NewDst == f.Dst:
		return f.NewSrc.String() + " >"
	}
	return arrow(f.NewSrc, f.NewDst)
}

func arrow(src, dst netip.AddrPort) string { return src.String() + " > " + dst.String() }

func expires(d time.Duration) string {
	if d <= 0 {
		return "due"
	}
	return Duration(d)
}

// Duration is d in its two largest units: 3h, 5h59m, 1m30s.
func Duration(d time.Duration) string {
	d = d.Round(time.Second)
	h, m, s := d/time.Hour, d%time.Hour/time.Minute, d%time.Minute/time.Second
	var b strings.Builder
	if h > 0 {
		fmt.Fprintf(&b, "%dh", h)
	}
	if m > 0 {
		fmt.Fprintf(&b, "%dm", m)
	}
	if h == 0 && (s > 0 || m == 0) {
		fmt.Fprintf(&b, "%ds", s)
	}
	return b.String()
}

func named(service string) string {
	if service == "" {
		return "(not named yet)"
	}
	return service
}

func id(n uint32) string { return strconv.FormatUint(uint64(n), 10) }

func cell(cells []string, i int) string {
	if i < len(cells) {
		return cells[i]
	}
	return ""
}
