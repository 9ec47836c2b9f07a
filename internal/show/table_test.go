package show

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"wirelab.dev/wirelab/internal/api"
)

// fits fails where a line is wider, and where what is to be there is not.
func fits(t *testing.T, text string, width int, has ...string) {
	t.Helper()
	for line := range strings.Lines(text) {
		if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > width {
			t.Errorf("%d columns, of %d there are: %q", n, width, line)
		}
	}
	joined := strings.Join(strings.Fields(text), " ")
	for _, part := range has {
		if !strings.Contains(joined, part) {
			t.Errorf("no %q in\n%s", part, text)
		}
	}
}

func TestTablesFold(t *testing.T) {
	wide := Table{Head: []string{"KEY", "TEXT"}, Rows: [][]string{{"a", "one two three four five six"}, {"bcd", "x"}}}
	if got, want := wide.Fit(29), "KEY  TEXT\na    one two three four five\n     six\nbcd  x\n"; got != want {
		t.Errorf("the last column is folded as\n%s\nwant\n%s", got, want)
	}
	if got, want := wide.Fit(0), "KEY  TEXT\na    one two three four five six\nbcd  x\n"; got != want {
		t.Errorf("of any width\n%s\nwant\n%s", got, want)
	}
	many := Table{
		Head: []string{"NODE", "FRONTEND", "ID", "BACKEND"},
		Rows: [][]string{
			{"worker", "10.96.0.10:5353/udp", "1007", "10.244.1.2:53"}, {"", "", "", "10.244.1.3:53"}, {"worker", "10.96.0.11:53/udp", "8", strings.Repeat("x", 50)},
		},
	}
	want := `worker
  FRONTEND 10.96.0.10:5353/udp  ID 1007
  BACKEND 10.244.1.2:53
  BACKEND 10.244.1.3:53
  FRONTEND 10.96.0.11:53/udp  ID 8
  BACKEND
    xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx
    xxxxxxxxxxxxxx
`
	if got := many.Fit(40); got != want {
		t.Errorf("rows fold as\n%s\nwant\n%s", got, want)
	}
}

// TestStatusFitsTheScreen: all of a node's status, and the lists, in COLUMNS columns.
func TestStatusFitsTheScreen(t *testing.T) {
	s := node()
	s.LeftOut = []api.LeftOut{{Kind: "Service", Namespace: "ns", Name: "a", Reason: "NotCarried", Message: "port 9/SCTP is not carried: only TCP and UDP are"}}
	for columns, width := range map[string]int{"60": 60, "7": 40} {
		t.Setenv("COLUMNS", columns)
		text := Status(s, now).String()
		for _, b := range Details(s, now) {
			text += b.String()
		}
		fits(t, text, width, "by icmp, not by tcp (connection refused)", "49152-65535, for clients outside of")
		services := []api.Service{{ID: 1234, Service: "default/" + strings.Repeat("long", 9), Protocol: "tcp", Affinity: time.Hour, Frontends: []api.ServiceFrontend{{Type: "ClusterIP", Addr: at("10.96.7.8:8080")}}}}
		fits(t, Services(services).On("worker").String(), width, "BACKEND none: refused", "affinity 1h")
	}
	t.Setenv("COLUMNS", "")
	if got := (Table{Rows: [][]string{{strings.Repeat("x", 300)}}}).String(); len(got) != 301 {
		t.Errorf("without COLUMNS a line is cut: %q", got)
	}
}
