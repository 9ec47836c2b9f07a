package agent

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"wirelab.dev/wirelab/charts"
)

var (
	labelList = regexp.MustCompile(`\b(?:by|on)\s*\(([^)]*)\)`)
	selection = regexp.MustCompile(`\{([^}]*)\}`)
	matcher   = regexp.MustCompile(`(\w+)\s*(?:=~|!~|!=|=)`)
	quoted    = regexp.MustCompile(`"[^"]*"`)
	window    = regexp.MustCompile(`\[[^\]]*\]`)
	queryWord = regexp.MustCompile(`[a-zA-Z_]\w*(?:\s*\()?`)
	legend    = regexp.MustCompile(`\{\{(\w+)\}\}`)
)

// asksFor is what is wrong with a query: names in it that are no series, and labels that none of its series has.
func asksFor(served map[string]family, query, legends string) (wrong []string) {
	labels := []string{"instance", "job"}
	var asked []string
	rest := quoted.ReplaceAllString(query, "")
	for _, m := range legend.FindAllStringSubmatch(legends, -1) {
		asked = append(asked, m[1])
	}
	for _, m := range labelList.FindAllStringSubmatch(rest, -1) {
		asked = append(asked, regexp.MustCompile(`\w+`).FindAllString(m[1], -1)...)
	}
	for _, m := range selection.FindAllStringSubmatch(rest, -1) {
		for _, l := range matcher.FindAllStringSubmatch(m[1], -1) {
			asked = append(asked, l[1])
		}
	}
	for _, form := range []*regexp.Regexp{labelList, selection, window} {
		rest = form.ReplaceAllString(rest, " ")
	}
	found := 0
	for _, word := range queryWord.FindAllString(rest, -1) {
		if strings.HasSuffix(word, "(") || slices.Contains([]string{"and", "or", "unless"}, word) {
			continue
		}
		f, ok := served[word]
		if name, isBucket := strings.CutSuffix(word, "_bucket"); isBucket && served[name].Type == "histogram" {
			f, ok = served[name], true
			labels = append(labels, "le")
		}
		if !ok {
			wrong = append(wrong, word)
			continue
		}
		found++
		for _, l := range strings.Split(f.Labels, ", ") {
			labels = append(labels, strings.Trim(l, "`"))
		}
	}
	for _, l := range asked {
		if !slices.Contains(labels, l) {
			wrong = append(wrong, "label "+l)
		}
	}
	if found == 0 {
		wrong = append(wrong, "no series")
	}
	return wrong
}

// TestDashboardAsksForSeriesThatThereAre holds the queries of the chart's dashboard against what an agent serves.
func TestDashboardAsksForSeriesThatThereAre(t *testing.T) {
	served := familiesOf(t, scraped(t, everySeries(t)))
	data, err := charts.FS.ReadFile(charts.Wirelab + "/dashboards/wirelab.json")
	if err != nil {
		t.Fatal(err)
	}
	var dashboard struct {
		Panels []struct {
			ID          int
			Type, Title string
			Targets     []struct{ Expr, LegendFormat string }
		}
		Templating struct {
			List []struct{ Name, Type, Query string }
		}
	}
	if err := json.Unmarshal(data, &dashboard); err != nil {
		t.Fatal(err)
	}
	ids := map[int]bool{}
	for _, p := range dashboard.Panels {
		if ids[p.ID] || len(p.Targets) == 0 && p.Type != "row" {
			t.Errorf("%q has no query, or the id of another: %d", p.Title, p.ID)
		}
		ids[p.ID] = true
		for _, q := range p.Targets {
			if wrong := asksFor(served, q.Expr, q.LegendFormat); len(wrong) > 0 {
				t.Errorf("%q asks for what is not served: %v\n%s", p.Title, wrong, q.Expr)
			}
		}
	}
	of := regexp.MustCompile(`^label_values\((\w+), (\w+)\)$`)
	for _, v := range dashboard.Templating.List {
		if v.Type != "query" {
			continue
		}
		m := of.FindStringSubmatch(v.Query)
		if m == nil {
			t.Errorf("variable %s is %q", v.Name, v.Query)
		} else if wrong := asksFor(served, m[1], "{{"+m[2]+"}}"); len(wrong) > 0 {
			t.Errorf("variable %s asks for what is not served: %v", v.Name, wrong)
		}
	}
	for query, want := range map[string]string{
		`sum by (verdict) (rate(hubble_flows_total{instance=~"$node"}[5m]))`:                     "[hubble_flows_total label verdict no series]",
		`wirelab_ready{reason="x"} and on (job, host) wirelab_build_info`:                        "[label host label reason]",
		`histogram_quantile(0.9, sum by (le) (rate(wirelab_ready_bucket[$__rate_interval])))`:    "[wirelab_ready_bucket label le no series]",
		`histogram_quantile(0.9, rate(wirelab_probe_duration_seconds_bucket[$__rate_interval]))`: "[]",
	} {
		if got := fmt.Sprint(asksFor(served, query, "")); got != want {
			t.Errorf("of %s it finds %s, want %s", query, got, want)
		}
	}
}
