package labs

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"wirelab.dev/wirelab/internal/bugreport"
)

// ask is one question of a report, or several that depend on each other.
type ask struct {
	part bugreport.Part
	// do gets the content. What it returns beside an error is shown with it.
	do func(context.Context) ([]byte, error)
	// show lays the content out for the page; nil: it is text.
	show func([]byte) (string, error)
	// more does what do does where the parts are not known before; nil where do is there.
	more func(context.Context) []bugreport.Part
}

// asksAtOnce is how many questions are asked side by side: most start a process on a node.
const asksAtOnce = 6

// answered asks, and gives the answers in the order of the questions. Each has partTimeout from when it is asked.
func answered(ctx context.Context, asks []ask) []bugreport.Part {
	parts := make([][]bugreport.Part, len(asks))
	turns := make(chan struct{}, asksAtOnce)
	var all sync.WaitGroup
	for i, a := range asks {
		all.Go(func() {
			turns <- struct{}{}
			defer func() { <-turns }()
			if a.more != nil {
				parts[i] = a.more(ctx)
				return
			}
			parts[i] = []bugreport.Part{a.answer(ctx)}
		})
	}
	all.Wait()
	return slices.Concat(parts...)
}

func (a ask) answer(ctx context.Context) bugreport.Part {
	p := a.part
	actx, cancel := context.WithTimeoutCause(ctx, partTimeout, fmt.Errorf("no answer within %s", partTimeout))
	defer cancel()
	content, err := a.do(actx)
	if err != nil && actx.Err() != nil {
		err = context.Cause(actx)
	}
	if err != nil {
		p.Lacking = oneSentence(err)
	}
	p.Content = content
	if a.show == nil || len(content) == 0 {
		return p
	}
	shown, err := a.show(content)
	if err != nil {
		p.Lacking = strings.TrimSpace("it cannot be laid out: " + oneSentence(err) + " " + p.Lacking)
		return p
	}
	p.Shown = shown
	return p
}

// maxAnswer is how much one question may be answered, in bytes: what is over is left out, and said.
const maxAnswer = 4 << 20

// bounded keeps the first maxAnswer bytes of what is written, and counts the others.
type bounded struct {
	bytes.Buffer
	over int
}

func (b *bounded) Write(p []byte) (int, error) {
	room := max(min(maxAnswer-b.Len(), len(p)), 0)
	b.over += len(p) - room
	_, err := b.Buffer.Write(p[:room])
	return len(p), err
}

// whole is what is kept, up to the end of a line where something is left out: a part of a secret does not look like one.
func (b *bounded) whole() []byte {
	if b.over == 0 {
		return b.Bytes()
	}
	return b.Bytes()[:bytes.LastIndexByte(b.Bytes(), '\n')+1]
}

// err says what is left out; nil where nothing is.
func (b *bounded) err() error {
	if b.over == 0 {
		return nil
	}
	return fmt.Errorf("it has %d bytes, of which those here are the first", b.Len()+b.over)
}
