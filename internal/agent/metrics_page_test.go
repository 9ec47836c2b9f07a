package agent

import (
	"io"
	"iter"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"golang.org/x/sys/unix"

	"wirelab.dev/wirelab/datapath"
	"wirelab.dev/wirelab/internal/agent/flows"
	"wirelab.dev/wirelab/internal/api"
	"wirelab.dev/wirelab/internal/identity"
	"wirelab.dev/wirelab/internal/settings"
)

// everySeries is what an agent with everything switched on serves once all has happened that it counts.
func everySeries(t *testing.T) *metrics {
	t.Helper()
	groups, _, _ := settings.Keys().Find("flows.metrics")
	m := newMetrics(func() snapshot {
		return snapshot{
			ipam:        &api.IPAM{},
			reconcilers: []api.Reconciler{{Name: "routes", LastSuccess: time.UnixMilli(1500)}},
			health:      &api.ClusterHealth{Nodes: []api.NodeHealth{{Reached: api.Reached}}},
			packets: []datapath.Metric{
				{Reason: "to-kernel", Direction: datapath.FromPod, Packets: 7, Bytes: 700},
				{Reason: "source-address", Direction: datapath.FromPod, Drop: true, Packets: 2, Bytes: 84},
			},
		}
	}, groups.Allowed)
	m.withServices()
	m.services.ObserveCollected(datapath.Collected{Flows: 1, Translations: 1, Room: 65536})
	m.observeCNI("ADD", true, time.Millisecond)
	m.observeProbe(api.Probe{Target: "node", Protocol: "icmp", Latency: time.Millisecond})
	m.observeProbe(api.Probe{Target: "endpoint", Protocol: "tcp", Error: "no answer"})
	syn := api.Event{
		Type: api.EventTrace, Time: time.Now(), Reason: "forwarded", Point: api.ToNetwork, State: api.StateNew, EtherType: unix.ETH_P_IP, Proto: unix.IPPROTO_TCP, TCPFlags: 0x02,
		Src: netip.MustParseAddrPort("10.0.1.7:40000"), Dst: netip.MustParseAddrPort("192.0.2.1:443"),
	}
	drop, echo := syn, syn
	drop.Type, drop.Reason, drop.Point, drop.State = api.EventDrop, "source-address", api.FromPod, ""
	echo.Proto, echo.ICMPType, echo.TCPFlags = unix.IPPROTO_ICMP, 8, 0
	events := iter.Seq2[api.MonitorLine, error](func(yield func(api.MonitorLine, error) bool) {
		for _, e := range []api.Event{syn, drop, echo} {
			if !yield(api.MonitorLine{Event: &e}, nil) {
				return
			}
		}
	})
	if err := flows.NewBuffer("a", 16, nil).Keep(t.Context(), events, flows.NewWho(identity.NewNumbers()), m.flows); err != nil {
		t.Fatal(err)
	}
	return m
}

// scraped is what the agent answers to Prometheus.
func scraped(t *testing.T, m *metrics) string {
	t.Helper()
	server := httptest.NewServer(m.handler())
	defer server.Close()
	answer, err := http.Get(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK {
		t.Fatalf("%s, %v\n%s", answer.Status, err, body)
	}
	return string(body)
}

// family is a name of series, with what docs/metrics.md says of it.
type family struct{ Name, Type, Labels, Help string }

var (
	helpLine   = regexp.MustCompile(`(?m)^# HELP (\S+) (.*)$`)
	typeLine   = regexp.MustCompile(`(?m)^# TYPE (\S+) (\S+)$`)
	sampleLine = regexp.MustCompile(`(?m)^([a-z]\w*)(?:\{(.*)\})? \S+$`)
	labelName  = regexp.MustCompile(`(\w+)="`)
	tableRow   = regexp.MustCompile("(?m)^\\| `(\\w+)` \\| (\\w+) \\| (.*?) \\|(?: (.*) \\|)?$")
)

// familiesOf are those of an answer to Prometheus, by name.
func familiesOf(t *testing.T, page string) map[string]family {
	t.Helper()
	all := map[string]family{}
	for _, m := range typeLine.FindAllStringSubmatch(page, -1) {
		all[m[1]] = family{Name: m[1], Type: m[2]}
	}
	for _, m := range helpLine.FindAllStringSubmatch(page, -1) {
		f := all[m[1]]
		f.Help = m[2]
		all[m[1]] = f
	}
	samples := 0
	for _, m := range sampleLine.FindAllStringSubmatch(page, -1) {
		name := m[1]
		for _, suffix := range []string{"_bucket", "_sum", "_count"} {
			if short := strings.TrimSuffix(name, suffix); all[name].Name == "" && all[short].Name != "" {
				name = short
			}
		}
		f, ok := all[name]
		if !ok {
			t.Errorf("%s has no type", m[0])
			continue
		}
		var labels []string
		for _, l := range labelName.FindAllStringSubmatch(m[2], -1) {
			if l[1] != "le" && l[1] != "quantile" {
				labels = append(labels, "`"+l[1]+"`")
			}
		}
		f.Labels, samples = strings.Join(labels, ", "), samples+1
		all[name] = f
	}
	if lines := regexp.MustCompile(`(?m)^[^#\n]`).FindAllString(page, -1); len(lines) != samples {
		t.Errorf("%d of %d samples have been understood", samples, len(lines))
	}
	return all
}

// TestMetricsPage holds docs/metrics.md against what an agent serves, either way: names, types, labels, and of our own what they
// mean.
func TestMetricsPage(t *testing.T) {
	m := everySeries(t)
	served := familiesOf(t, scraped(t, m))
	descs := make(chan *prometheus.Desc, 1000)
	m.registry.Describe(descs)
	close(descs)
	described := 0
	for d := range descs {
		name := regexp.MustCompile(`fqName: "(\w+)"`).FindStringSubmatch(d.String())[1]
		if _, ok := served[name]; !ok {
			t.Errorf("%s is registered and not served: have everySeries count one", name)
		}
		described++
	}
	if described < len(served) {
		t.Errorf("%d series are registered, %d are served", described, len(served))
	}
	page, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]family{}
	for _, row := range tableRow.FindAllStringSubmatch(string(page), -1) {
		if _, twice := documented[row[1]]; twice {
			t.Errorf("docs/metrics.md has %s twice", row[1])
		}
		documented[row[1]] = family{row[1], row[2], row[3], row[4]}
	}
	for name, f := range served {
		if !strings.HasPrefix(name, "wirelab_") && !strings.HasPrefix(name, "hubble_") {
			f.Help = "" // which is its library's
			served[name] = f
		}
	}
	if diff := cmp.Diff(served, documented); diff != "" {
		t.Errorf("docs/metrics.md (+) does not tell what is served (-):\n%s", diff)
	}
}

// TestMetricsLint: the linter that promtool has finds nothing.
func TestMetricsLint(t *testing.T) {
	problems, err := promlint.New(strings.NewReader(scraped(t, everySeries(t)))).Lint()
	if err != nil || len(problems) > 0 {
		t.Errorf("%v, %v", problems, err)
	}
	problems, err = promlint.New(strings.NewReader("# HELP wirelab_faults Faults.\n# TYPE wirelab_faults counter\nwirelab_faults 1\n")).Lint()
	if err != nil || len(problems) != 1 {
		t.Errorf("of a counter without _total it finds %v, %v", problems, err)
	}
}
