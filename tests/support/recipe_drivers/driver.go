package main

import (
	"bufio"
	"fmt"
	"os"
	"strings"
	"sync"
)

func main() {
	var source TokenSource
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		ctxs := strings.Split(lines.Text(), "\t")
		texts := make([]string, len(ctxs))
		var all sync.WaitGroup
		for i, ctx := range ctxs {
			all.Add(1)
			go func() {
				defer all.Done()
				token, err := source.Token(ctx)
				if err != nil {
					token = "error: " + err.Error()
				}
				texts[i] = strings.Join(strings.Fields(token), " ")
			}()
		}
		all.Wait()
		fmt.Println(strings.Join(texts, "\t"))
	}
}
