;; Four threads and a collector that stops them by signals; see ../e2e/runtimes.rs.
(use-modules (ice-9 threads) (ice-9 rdelim))

(define chunk (string->number (cadr (command-line))))
(define lock (make-mutex))
(define changed (make-condition-variable))
(define asked 0)
(define finish #f)

(define (advance x left)
  (if (zero? left)
      x
      (advance (logand (+ (* x 1664525) 1013904223) #xffffffff) (- left 1))))

(define (walk x done)
  (let ((what (with-mutex lock
                (let wait ()
                  (cond ((< done asked) 'more)
                        (finish 'end)
                        (else (wait-condition-variable changed lock) (wait)))))))
    (if (eq? what 'end) x (walk (advance x chunk) (+ done 1)))))

(define walkers
  (map (lambda (seed) (call-with-new-thread (lambda () (walk seed 0)))) '(1 2 3 4)))

(define (say text) (display text) (newline) (force-output))

(say "READY")
(let next ()
  (let ((line (read-line)))
    (with-mutex lock
      (if (equal? line "ping") (set! asked (+ asked 1)) (set! finish #t))
      (broadcast-condition-variable changed))
    (unless finish
      (say "PONG")
      (next))))
(say (string-append "SUM " (number->string (apply + (map join-thread walkers)))))
