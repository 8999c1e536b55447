"""Writes batch.yaml: two hundred jobs that share one question.

    python3 make_batch.py > batch.yaml

Is every even number up to 100,000 the sum of two primes, as Goldbach supposed? Each job looks at 500 numbers and
exits with 1 if it finds one that is not.
"""

JOBS, STEP = 200, 500

HEAD = """\
# Two hundred jobs in one file, written by make_batch.py: the first in full, the others like it with another range.
# Each checks that every even number of its range is the sum of two primes, and exits with 1 if one is not.
- &part
  name: goldbach
  image: python:3.12-slim
  command:
    - python3
    - -c
    - |
      import sys
      low, high = map(int, sys.argv[1:])
      prime = lambda n: n > 1 and all(n % d for d in range(2, int(n**0.5) + 1))
      odd = [n for n in range(max(low, 4), high, 2) if not any(prime(p) and prime(n - p) for p in range(2, n // 2 + 1))]
      print(f"{low} to {high}:", odd or "all are sums of two primes")
      sys.exit(bool(odd))
"""


def main() -> None:
    print(HEAD, end="")
    print(f'  args: ["0", "{STEP}"]')
    print("  max_retries: 0\n  labels: {example: batch}\n  network: none\n  resources: {cpu: 500m, memory: 32Mi}")
    for n in range(1, JOBS):
        print(f'- {{<<: *part, args: ["{n * STEP}", "{(n + 1) * STEP}"]}}')


if __name__ == "__main__":
    main()
