// Command recording draws the recording of a terminal, an asciicast of version 2, as an SVG that plays it over and over. Where
// nothing plays, the SVG shows the end.
//
// usage: recording -title TEXT [-speed N] CAST >SVG
package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"flag"
	"fmt"
	"html"
	"image/color"
	"io"
	"log"
	"os"
	"strings"

	uv "github.com/charmbracelet/ultraviolet"
	"github.com/charmbracelet/x/vt"
)

const (
	cellWidth  = 8.4 // pixels
	lineHeight = 18
	margin     = 14
	header     = 34 // where the title is
	// rest is for how long the end is shown, in seconds.
	rest = 5
	// together are outputs that are drawn as one: what comes within so many seconds of the recording.
	together = 0.05
	plain    = "#d4d4d4"
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("recording: ")
	speed := flag.Float64("speed", 1, "how many times as fast as it was")
	title := flag.String("title", "", "what is written above it")
	flag.Parse()
	if flag.NArg() != 1 || *speed <= 0 {
		flag.Usage()
		os.Exit(2)
	}
	f, err := os.Open(flag.Arg(0))
	if err != nil {
		log.Fatal(err)
	}
	r, err := play(f)
	if err != nil {
		log.Fatal(err)
	}
	if err := r.draw(os.Stdout, *title, *speed); err != nil {
		log.Fatal(err)
	}
}

// recording is what each row of the terminal showed, and when.
type recording struct {
	columns, rows int
	length        float64 // seconds
	shown         [][]shown
}

// shown is what a row showed from then on, until the next: SVG text in a line of its own.
type shown struct {
	since float64 // seconds
	text  string
}

// play has a terminal show what was recorded.
func play(cast io.Reader) (*recording, error) {
	lines := bufio.NewScanner(cast)
	lines.Buffer(nil, 1<<20)
	if !lines.Scan() {
		return nil, fmt.Errorf("read the recording: %w", cmp.Or(lines.Err(), io.ErrUnexpectedEOF))
	}
	var head struct{ Version, Width, Height int }
	if err := json.Unmarshal(lines.Bytes(), &head); err != nil || head.Version != 2 {
		return nil, fmt.Errorf("not an asciicast of version 2: %.80s", lines.Text())
	}
	r := &recording{columns: head.Width, rows: head.Height, shown: make([][]shown, head.Height)}
	screen := vt.NewEmulator(head.Width, head.Height)
	changed := 0.0 // when the oldest output came that has not been looked at
	for lines.Scan() {
		var at float64
		var kind, text string
		if err := json.Unmarshal(lines.Bytes(), &[]any{&at, &kind, &text}); err != nil {
			return nil, fmt.Errorf("read %.80s: %w", lines.Text(), err)
		}
		if kind != "o" {
			continue
		}
		if at > changed+together {
			r.look(screen, changed)
			changed = at
		}
		if _, err := screen.WriteString(text); err != nil {
			return nil, fmt.Errorf("show the recording: %w", err)
		}
		r.length = at
	}
	r.look(screen, changed)
	return r, lines.Err()
}

// look notes which rows are not what they were.
func (r *recording) look(screen *vt.Emulator, at float64) {
	for y := range r.rows {
		text := row(screen, y, r.columns)
		of := r.shown[y]
		if len(of) == 0 && text == "" || len(of) > 0 && of[len(of)-1].text == text {
			continue
		}
		r.shown[y] = append(of, shown{at, text})
	}
}

// row is a row of the screen: a run of text for each style.
func row(screen *vt.Emulator, y, columns int) string {
	var b strings.Builder
	for x := 0; x < columns; {
		style, from, run := styleAt(screen, x, y), x, ""
		for ; x < columns && alike(styleAt(screen, x, y), style); x++ {
			run += contentAt(screen, x, y)
		}
		text := strings.TrimRight(run, " ")
		lead := len(text) - len(strings.TrimLeft(text, " "))
		if text = text[lead:]; text == "" {
			continue
		}
		fmt.Fprintf(&b, `<tspan x="%.1f" textLength="%.1f"%s>%s</tspan>`,
			margin+float64(from+lead)*cellWidth, float64(len([]rune(text)))*cellWidth, attributes(style), html.EscapeString(text))
	}
	return b.String()
}

func contentAt(screen *vt.Emulator, x, y int) string {
	if c := screen.CellAt(x, y); c != nil && c.Content != "" {
		return c.Content
	}
	return " "
}

func styleAt(screen *vt.Emulator, x, y int) (s uv.Style) {
	if c := screen.CellAt(x, y); c != nil {
		s = c.Style
	}
	return s
}

func alike(a, b uv.Style) bool { return a.Equal(&b) }

func attributes(s uv.Style) string {
	var a string
	if s.Fg != nil {
		a += fmt.Sprintf(` fill="%s"`, hex(s.Fg))
	}
	if s.Attrs&uv.AttrBold != 0 {
		a += ` font-weight="bold"`
	}
	if s.Attrs&uv.AttrFaint != 0 {
		a += ` fill-opacity="0.6"`
	}
	return a
}

func hex(c color.Color) string {
	r, g, b, _ := c.RGBA()
	return fmt.Sprintf("#%02x%02x%02x", r>>8, g>>8, b>>8)
}

// draw writes the SVG. Each thing that a row showed is a text of its own, visible while it was there.
func (r *recording) draw(w io.Writer, title string, speed float64) error {
	length := r.length/speed + rest
	width, height := 2*margin+float64(r.columns)*cellWidth, header+margin+r.rows*lineHeight
	out := bufio.NewWriter(w)
	fmt.Fprintf(out, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %.0f %d" width="%.0f" height="%d" font-family="ui-monospace,Menlo,Consolas,'DejaVu Sans Mono',monospace" font-size="14" fill="%s">`+"\n",
		width, height, width, height, plain)
	fmt.Fprintf(out, "<title>%s</title>\n", html.EscapeString(title))
	fmt.Fprintf(out, `<rect width="100%%" height="100%%" rx="8" fill="#1e1e1e"/>`+"\n")
	fmt.Fprintf(out, `<text x="%d" y="22" font-size="12" opacity="0.6">%s</text>`+"\n", margin, html.EscapeString(title))
	for y, of := range r.shown {
		for i, s := range of {
			if s.text == "" {
				continue
			}
			from, to, visibility := s.since/speed/length, 1.0, "visible"
			if i < len(of)-1 {
				to, visibility = of[i+1].since/speed/length, "hidden"
			}
			fmt.Fprintf(out, `<text y="%d" xml:space="preserve" visibility="%s">%s%s</text>`+"\n",
				header+(y+1)*lineHeight-4, visibility, s.text, visible(from, to, length))
		}
	}
	fmt.Fprintln(out, "</svg>")
	return out.Flush()
}

// visible has its parent shown from then to then, parts of the length.
func visible(from, to, length float64) string {
	values, times := "hidden;visible", fmt.Sprintf("0;%.5f", from)
	if from == 0 {
		values, times = "visible", "0"
	}
	if to < 1 {
		values, times = values+";hidden", fmt.Sprintf("%s;%.5f", times, to)
	}
	return fmt.Sprintf(`<animate attributeName="visibility" values="%s" keyTimes="%s" dur="%.2fs" calcMode="discrete" repeatCount="indefinite"/>`, values, times, length)
}
