// Sends three bytes without saying how many to $URL, with the key $KEY, and prints the response.
package main

import (
	"io"
	"net/http"
	"os"
	"strings"
)

func main() {
	body := io.MultiReader(strings.NewReader("a"), strings.NewReader("bc"))
	request, err := http.NewRequest("POST", os.Getenv("URL"), body)
	if err != nil {
		panic(err)
	}
	request.Header.Set("Authorization", "Bearer "+os.Getenv("KEY"))
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		panic(err)
	}
	defer response.Body.Close()
	if _, err := io.Copy(os.Stdout, response.Body); err != nil {
		panic(err)
	}
}
