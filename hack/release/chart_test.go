package main

import (
	"bytes"
	"os"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"helm.sh/helm/v3/pkg/chart/loader"
)

// TestPackChart: Helm reads the package, which has every file of the chart and the release's version, and is the same each time.
func TestPackChart(t *testing.T) {
	tree := os.DirFS("../..")
	e := edition{version: "v1.2.3"}
	packed, err := packChart(tree, "charts/wirelab", e, at)
	if err != nil {
		t.Fatal(err)
	}
	c, err := loader.LoadArchive(bytes.NewReader(packed))
	if err != nil {
		t.Fatal(err)
	}
	if c.Name() != "wirelab" || c.Metadata.Version != "1.2.3" || c.Metadata.AppVersion != "v1.2.3" {
		t.Errorf("metadata = %+v", c.Metadata)
	}
	whole, err := loader.LoadDir("../../charts/wirelab")
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Raw) != len(whole.Raw) || len(c.Templates) != len(whole.Templates) || len(c.Templates) == 0 || len(c.Schema) == 0 {
		t.Errorf("%d files with %d templates, want %d with %d", len(c.Raw), len(c.Templates), len(whole.Raw), len(whole.Templates))
	}
	again, err := packChart(tree, "charts/wirelab", e, at.In(time.UTC))
	if err != nil || !bytes.Equal(packed, again) {
		t.Errorf("packed once more it is another file (%v)", err)
	}
	other, err := packChart(tree, "charts/wirelab", e, at.Add(time.Hour))
	if err != nil || bytes.Equal(packed, other) {
		t.Errorf("the time of the commit is not in it (%v)", err)
	}
}

func TestPackChartWithoutVersion(t *testing.T) {
	tree := fstest.MapFS{"charts/wirelab/Chart.yaml": {Data: []byte("name: wirelab\nversion: 0.1.0\n")}}
	if _, err := packChart(tree, "charts/wirelab", edition{version: "v1.2.3"}, at); err == nil || !strings.Contains(err.Error(), "appVersion") {
		t.Errorf("error = %v", err)
	}
}
