package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/template"
)

// workflow is what the templates of workflows are given.
type workflow struct {
	Line string // the command that wrote it
	Rows []row
}

// writeWorkflow writes a workflow for a CI system that makes the labs of rows. In JSON, which YAML is a form of, every text of a
// row is one of its own.
func writeWorkflow(w io.Writer, system, line string, rows []row) error {
	text := map[string]string{"github": githubWorkflow, "gitlab": gitlabWorkflow}[system]
	t, err := template.New(system).Delims("<<", ">>").Funcs(template.FuncMap{"json": inYAML}).Parse(text)
	if err != nil {
		return err
	}
	if err := t.Execute(w, workflow{line, rows}); err != nil {
		return fmt.Errorf("write the workflow: %w", err)
	}
	return nil
}

// inYAML writes v in one line.
func inYAML(v any) (string, error) {
	var b strings.Builder
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	err := encoder.Encode(v)
	return strings.TrimSpace(b.String()), err
}

const githubWorkflow = `# Written by: << .Line >>
name: labs
on: [push, pull_request]
permissions:
  contents: read
jobs:
  lab:
    name: ${{ matrix.title }}
    runs-on: ubuntu-24.04
    timeout-minutes: 20
    strategy:
      fail-fast: false
      matrix:
        include:
<<- range .Rows >>
          - << json . >>
<<- end >>
    steps:
      - uses: actions/checkout@v4
      # Where this is no checkout of wirelab, get the binary lab from elsewhere, and put its folder into GITHUB_PATH.
      - name: Build lab
        run: |
          make build
          echo "$PWD/bin" >>"$GITHUB_PATH"
      # The exit status is 3 when a check failed, 1 when the lab could not be made.
      - name: Make the lab and verify it
        run: |
          lab up ${{ matrix.args }} --kubeconfig "$RUNNER_TEMP/kubeconfig" \
            --output-file results.xml --output-file summary.md --timings timings.json --report report
          echo "KUBECONFIG=$RUNNER_TEMP/kubeconfig" >>"$GITHUB_ENV"
      - name: Show what came out
        if: always()
        run: if [ -f summary.md ]; then cat summary.md >>"$GITHUB_STEP_SUMMARY"; fi
      - name: Keep what came out
        if: always()
        uses: actions/upload-artifact@v4
        with:
          name: lab-${{ matrix.name }}
          if-no-files-found: ignore
          path: |
            results.xml
            summary.md
            timings.json
            report
      - name: Take the lab down
        if: always()
        run: lab down ${{ matrix.name }}
`

const gitlabWorkflow = `# Written by: << .Line >>
lab:
  stage: test
  # A runner whose jobs run on the machine of their Docker engine, as with the shell executor: labs are reached on its loopback.
  tags: [docker]
  timeout: 20 minutes
  parallel:
    matrix:
<<- range .Rows >>
      - LAB_NAME: << json .Name >>
        LAB_ARGS: << json .Args >>
<<- end >>
  script:
    # Where this is no checkout of wirelab, get the binary lab from elsewhere.
    - make build
    # The exit status is 3 when a check failed, 1 when the lab could not be made.
    - >-
      eval "bin/lab up $LAB_ARGS" --kubeconfig kubeconfig
      --output-file results.xml --output-file summary.md --timings timings.json --report report
  after_script:
    - bin/lab down "$LAB_NAME"
  artifacts:
    when: always
    paths: [summary.md, timings.json, report]
    reports:
      junit: results.xml
`
