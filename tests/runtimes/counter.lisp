;; Four threads of a system that maps its heap where it wants it; see ../e2e/runtimes.rs.
(defvar *chunk* (parse-integer (car (last sb-ext:*posix-argv*))))
(defvar *queues* (loop repeat 4 collect (sb-concurrency:make-mailbox)))

(defun advance (x left)
  (declare (type (unsigned-byte 32) x) (fixnum left) (optimize speed))
  (loop repeat left
        do (setf x (logand (+ (* x 1664525) 1013904223) #xffffffff)))
  x)

(defvar *threads*
  (loop for queue in *queues* and seed from 1
        collect (let ((queue queue) (x seed))
                  (sb-thread:make-thread
                   (lambda ()
                     (loop while (sb-concurrency:receive-message queue)
                           do (setf x (advance x *chunk*)))
                     x)))))

(format t "READY~%")
(finish-output)
(loop while (equal (read-line) "ping")
      do (dolist (queue *queues*) (sb-concurrency:send-message queue t))
         (format t "PONG~%")
         (finish-output))
(dolist (queue *queues*) (sb-concurrency:send-message queue nil))
(format t "SUM ~a~%" (reduce #'+ (mapcar #'sb-thread:join-thread *threads*)))
(finish-output)
(sb-ext:exit)
