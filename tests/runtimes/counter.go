// Four goroutines, and a collector that runs; see ../e2e/runtimes.rs.
package main

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
)

var kept [4][256][]byte

func walk(place int, chunk int, tokens chan bool, results chan uint32) {
	x := uint32(place + 1)
	for range tokens {
		for i := 0; i < chunk; i++ {
			x = x*1664525 + 1013904223
			if i%1024 == 0 {
				kept[place][x&255] = make([]byte, 4096)
			}
		}
	}
	results <- x
}

func main() {
	chunk, _ := strconv.Atoi(os.Args[1])
	results := make(chan uint32)
	var tokens [4]chan bool
	for i := range tokens {
		tokens[i] = make(chan bool, 100)
		go walk(i, chunk, tokens[i], results)
	}
	fmt.Println("READY")
	for input := bufio.NewScanner(os.Stdin); input.Scan() && input.Text() == "ping"; {
		for _, each := range tokens {
			each <- true
		}
		fmt.Println("PONG")
	}
	sum := uint64(0)
	for _, each := range tokens {
		close(each)
	}
	for range tokens {
		sum += uint64(<-results)
	}
	fmt.Println("SUM", sum)
}
