// Package browsertest looks at a page as a person does, in headless Chromium.
package browsertest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// Browser is headless Chromium with one page open, which says nothing on its console and asks nobody but its server.
type Browser struct {
	t   *testing.T
	ctx context.Context

	mu      sync.Mutex
	trouble []string
	asked   []string
}

// Open opens a page, or skips the test where there is no Chromium, which WIRELAB_TEST_STRICT does not allow. At the test's end
// the page may not have said anything on its console, nor asked for what is not below its URL.
func Open(t *testing.T, url string) *Browser {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		if os.Getenv("WIRELAB_TEST_STRICT") != "" {
			t.Fatal("there is no chromium on this machine: run make deps")
		}
		t.Skip("needs chromium")
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.WindowSize(1440, 900))
	ctx, cancel := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(cancel)
	b := &Browser{t: t}
	b.ctx, cancel = chromedp.NewContext(ctx, chromedp.WithListener(func(event any) {
		b.mu.Lock()
		defer b.mu.Unlock()
		switch e := event.(type) {
		case *runtime.EventConsoleAPICalled:
			b.trouble = append(b.trouble, fmt.Sprintf("%s: %+v", e.Type, e.Args))
		case *runtime.EventExceptionThrown:
			b.trouble = append(b.trouble, fmt.Sprintf("%s %+v", e.ExceptionDetails.Text, e.ExceptionDetails.Exception))
		case *log.EventEntryAdded:
			b.trouble = append(b.trouble, fmt.Sprintf("%s: %s %s", e.Entry.Level, e.Entry.Text, e.Entry.URL))
		case *network.EventRequestWillBeSent:
			b.asked = append(b.asked, e.Request.URL)
		}
	}))
	t.Cleanup(cancel)
	if err := chromedp.Do(b.ctx); err != nil { // which starts it, and takes its time
		t.Fatal(err)
	}
	t.Cleanup(func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		for _, what := range b.trouble {
			t.Errorf("the console says %s", what)
		}
		for _, asked := range b.asked {
			if !strings.HasPrefix(asked, url) && !strings.HasPrefix(asked, "data:") {
				t.Errorf("the page asks %s", asked)
			}
		}
		if len(b.asked) == 0 {
			t.Error("the page has asked nobody, so this is blind")
		}
	})
	Call(b, network.Enable, network.EnableParams{})
	b.Run(chromedp.Navigate(url))
	return b
}

// Run does what a person would, within a minute.
func (b *Browser) Run(actions ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, time.Minute)
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		b.t.Fatal(err)
	}
}

// Call runs a command of the DevTools protocol.
func Call[P, R any](b *Browser, command cdp.Command[P, R], params P) R {
	b.t.Helper()
	result, err := chromedp.Call(b.ctx, command, params)
	if err != nil {
		b.t.Fatal(err)
	}
	return result
}

// Ask evaluates JavaScript.
func Ask[T any](b *Browser, script string) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, time.Minute)
	defer cancel()
	answer, err := chromedp.Run(ctx, chromedp.Evaluate[T](script))
	if err != nil {
		b.t.Fatalf("%s: %v", script, err)
	}
	return answer
}

// Within waits until a script says true.
func (b *Browser) Within(limit time.Duration, what, script string) {
	b.t.Helper()
	for late := time.Now().Add(limit); !Ask[bool](b, script); {
		if time.Now().After(late) {
			b.t.Fatalf("%s: not within %s; the page says\n%s", what, limit, Ask[string](b, `document.body.innerText`))
		}
	}
}

// Picture writes what the page looks like to a file, as WebP.
func (b *Browser) Picture(file string) {
	b.t.Helper()
	shot := Call(b, page.CaptureScreenshot, page.CaptureScreenshotParams{Format: page.CaptureScreenshotFormatWebp})
	if err := os.WriteFile(file, shot.Data, 0o644); err != nil { //nolint:gosec // for others to read
		b.t.Fatal(err)
	}
}
