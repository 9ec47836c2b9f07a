package apiservertest

import (
	"wirelab.dev/wirelab/charts"
	"wirelab.dev/wirelab/internal/release"
)

// Install installs the chart as release wirelab in kube-system, as lab does.
func (s *Server) Install(values map[string]any) {
	s.t.Helper()
	chart, err := release.LoadChart(charts.FS, charts.Wirelab)
	if err != nil {
		s.t.Fatal(err)
	}
	_, err = release.Ensure(s.t.Context(), s.Config, release.Spec{Name: "wirelab", Namespace: "kube-system", Chart: chart, Values: values})
	if err != nil {
		s.t.Fatal(err)
	}
}
